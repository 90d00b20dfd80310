//! SSH over a WebSocket, on real connections.

use std::time::Duration;

use burstflare_app_edge::serve::{Bounds, serve};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::support::{World, call, text};
use crate::tenancy::KEY;

pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

pub(crate) async fn upgrade(address: std::net::SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:8787\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_unchanged_and_a_ticket_works_once() {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let template = world.template(&token, "t").await;
    let session = world.session(&token, "s", &template, "private").await;
    let attach = call("POST", "/api/v1/sessions/s/attach").token(&token);
    let attached = world.send(attach.json(&json!({ "purpose": "ssh", "ssh_key": KEY }))).await.expect(201);
    assert_eq!(attached["url_path"], format!("/api/v1/sessions/{session}/ssh"));
    assert_eq!(attached["ssh_host_key"], attached["session"]["ssh_host_key"]);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let bounds = Bounds { drain: Duration::from_millis(500), ..Bounds::default() };
    let server = tokio::spawn(serve(
        listener,
        world.harness.router(),
        async {
            stopped.await.ok();
        },
        bounds,
    ));

    let path = format!("{}?ticket={}", text(&attached["url_path"]), text(&attached["ticket"]));
    let mut stream = upgrade(address, &path).await;
    let answer = head(&mut stream).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: yes"), "the agent's handshake: {answer}");
    assert!(!answer.contains("flare-secret"), "{answer}");
    let mut line = vec![0; KEY.len() + 1];
    stream.read_exact(&mut line).await.expect("the key that may log in");
    assert_eq!(String::from_utf8_lossy(&line), format!("{KEY}\n"));

    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let (mut reader, mut writer) = stream.into_split();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.expect("sent");
        writer
    });
    let mut received = vec![0; expected.len()];
    tokio::time::timeout(Duration::from_secs(20), reader.read_exact(&mut received))
        .await
        .expect("in time")
        .expect("everything");
    assert!(received == expected);
    let mut writer = writing.await.expect("written");
    writer.shutdown().await.expect("closed");
    let ended = tokio::time::timeout(Duration::from_secs(5), reader.read(&mut received)).await;
    assert_eq!(ended.expect("in time").expect("an end"), 0, "one side's end is the other's");

    let mut again = upgrade(address, &path).await;
    assert!(head(&mut again).await.starts_with("HTTP/1.1 401"), "a ticket works once");
    let mut plain = TcpStream::connect(address).await.expect("connected");
    plain
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:8787\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    assert!(head(&mut plain).await.starts_with("HTTP/1.1 426"));

    stop.send(()).expect("running");
    tokio::time::timeout(Duration::from_secs(5), server)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("ended");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_cut_off() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let bounds = Bounds { head: Duration::from_millis(200), connections: 1, ..Bounds::default() };
    tokio::spawn(serve(listener, world.harness.router(), std::future::pending(), bounds));
    let mut slow = TcpStream::connect(address).await.expect("connected");
    slow.write_all(b"GET / HTTP/1.1\r\nhost: 127.").await.expect("sent");
    // The only place is taken until the slow one is cut off.
    let mut next = TcpStream::connect(address).await.expect("queued");
    next.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:8787\r\n\r\n").await.expect("sent");
    let answer = tokio::time::timeout(Duration::from_secs(5), head(&mut next)).await.expect("in time");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the slow one was closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let bounds = Bounds { head: Duration::from_millis(300), ..Bounds::default() };
    tokio::spawn(serve(listener, world.harness.router(), std::future::pending(), bounds));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:8787\r\n").await.expect("sent");
    let dripping = async {
        // A line now and then keeps nothing open.
        while stream.write_all(b"x-more: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), dripping).await.expect("the server hangs up");
}
