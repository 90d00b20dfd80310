//! Who may resume an SSH stream, from where, and what ends it.

use std::time::Duration;

use burstflare_ports::secret::Secret;
use burstflare_ports::wire::resume::{Frame, Open, Resume, SUBPROTOCOL, WINDOW, Welcome};
use burstflare_ports::wire::{EPOCH_HEADER, SSH_KEY_HEADER};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::machine::{EPOCH, KEY, Machine};

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILu7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7";
const BANNER: &[u8] = b"SSH-2.0-BurstFlare\r\n";

pub(crate) type Socket = WebSocketStream<UnixStream>;

/// Opens the agent's SSH call as an edge does, for this key.
pub(crate) async fn open(machine: &Machine, key: &str, subprotocol: Option<&str>) -> Socket {
    let mut request = Request::builder()
        .uri("ws://agent/v1/ssh")
        .header("host", "agent")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("authorization", format!("Bearer {KEY}"))
        .header(EPOCH_HEADER, EPOCH)
        .header(SSH_KEY_HEADER, key);
    if let Some(subprotocol) = subprotocol {
        request = request.header("sec-websocket-protocol", subprotocol);
    }
    let stream = UnixStream::connect(machine.socket()).await.unwrap();
    tokio_tungstenite::client_async(request.body(()).unwrap(), stream).await.unwrap().0
}

async fn say(socket: &mut Socket, frame: &Frame) {
    socket.send(Message::Binary(frame.encode())).await.unwrap();
}

/// The next frame; `None` when the socket has ended.
async fn hear(socket: &mut Socket) -> Option<Frame> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), socket.next()).await.unwrap();
        match next {
            Some(Ok(Message::Binary(bytes))) => return Some(Frame::decode(bytes).unwrap()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return None,
        }
    }
}

/// Opens a stream; answers what it is called.
async fn begin(machine: &Machine) -> (Socket, Welcome) {
    let mut socket = open(machine, ONE, Some(SUBPROTOCOL)).await;
    say(&mut socket, &Frame::Open(Open::default())).await;
    let welcome = match hear(&mut socket).await {
        Some(Frame::Welcome(welcome)) => Some(welcome),
        _ => None,
    };
    let welcome = welcome.unwrap();
    assert_eq!(welcome.received, 0);
    (socket, welcome)
}

async fn again(machine: &Machine, key: &str, welcome: &Welcome, received: u64) -> (Socket, Option<Frame>) {
    let mut socket = open(machine, key, Some(SUBPROTOCOL)).await;
    let (id, secret) = (welcome.id.clone(), welcome.secret.clone());
    say(&mut socket, &Frame::Open(Open { resume: Some(Resume { id, secret, received }) })).await;
    let answer = hear(&mut socket).await;
    (socket, answer)
}

fn is_refused(answer: Option<Frame>) -> bool {
    matches!(answer, Some(Frame::Refused(refusal)) if refusal.code == "connection_gone")
}

#[tokio::test]
async fn who_resumes_holds_the_secret_and_the_same_key() {
    let machine = Machine::start();
    let (mut socket, welcome) = begin(&machine).await;
    let banner = Frame::Data(0, Bytes::from_static(BANNER));
    assert_eq!(hear(&mut socket).await, Some(banner.clone()));
    drop(socket);
    let wrong = Welcome { secret: Secret::new("0".repeat(64)), ..welcome.clone() };
    assert!(is_refused(again(&machine, ONE, &wrong, 0).await.1), "another secret");
    assert!(is_refused(again(&machine, OTHER, &welcome, 0).await.1), "another key");
    let unknown = Welcome { id: "0".repeat(64), ..welcome.clone() };
    assert!(is_refused(again(&machine, ONE, &unknown, 0).await.1), "another stream");
    assert!(is_refused(again(&machine, ONE, &welcome, 5).await.1), "inside a message");
    assert!(is_refused(again(&machine, ONE, &welcome, 9_000).await.1), "what was never sent");
    // None of these has done it any harm. What has not arrived comes again, what has does not.
    let (mut socket, answer) = again(&machine, ONE, &welcome, 0).await;
    assert!(matches!(answer, Some(Frame::Welcome(_))), "{answer:?}");
    let mut next = hear(&mut socket).await;
    if matches!(next, Some(Frame::Ack(0))) {
        next = hear(&mut socket).await;
    }
    assert_eq!(next, Some(banner));
    // A socket that is still open gives way to the newer one.
    say(&mut socket, &Frame::Data(0, Bytes::from_static(b"SSH-2.0-test\r\n"))).await;
    let length = BANNER.len() as u64;
    let (mut newer, answer) = loop {
        let (newer, answer) = again(&machine, ONE, &welcome, length).await;
        match &answer {
            // Our bytes had not been read yet: they are still on their way.
            Some(Frame::Welcome(welcome)) if welcome.received == 0 => {}
            _ => break (newer, answer),
        }
    };
    let Some(Frame::Welcome(welcome)) = answer else { panic!("{answer:?}") };
    assert!(hear(&mut socket).await.is_none() || welcome.received > 0);
    say(&mut newer, &Frame::Ping(77)).await;
    loop {
        match hear(&mut newer).await {
            Some(Frame::Pong(77)) => break,
            Some(Frame::Data(at, _)) => assert!(at >= length, "nothing comes twice"),
            Some(Frame::Ack(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    // Told that it is over, the agent keeps nothing.
    say(&mut newer, &Frame::End(welcome.received)).await;
    while hear(&mut newer).await.is_some() {}
    assert!(is_refused(again(&machine, ONE, &welcome, length).await.1), "it is over");
}

#[tokio::test]
async fn what_is_against_the_protocol_ends_the_stream() {
    let machine = Machine::start();
    let byte = Bytes::from_static(b"x");
    let bad: [(&str, Message); 7] = [
        ("a gap", Message::Binary(Frame::Data(1, byte.clone()).encode())),
        ("an offset at the end of numbers", Message::Binary(Frame::Data(u64::MAX, byte).encode())),
        ("an acknowledgement of what was never sent", Message::Binary(Frame::Ack(1 << 40).encode())),
        ("an end that is not one", Message::Binary(Frame::End(99).encode())),
        ("a second opening", Message::Binary(Frame::Open(Open::default()).encode())),
        ("noise", Message::Binary(Bytes::from_static(b"\xff\xfe\xfd"))),
        ("text", Message::Text("hello".into())),
    ];
    for (what, message) in bad {
        let (mut socket, welcome) = begin(&machine).await;
        socket.send(message).await.unwrap();
        while hear(&mut socket).await.is_some() {}
        let (_, answer) = again(&machine, ONE, &welcome, 0).await;
        assert!(is_refused(answer), "{what}");
    }
    let mut socket = open(&machine, ONE, Some(SUBPROTOCOL)).await;
    say(&mut socket, &Frame::Ping(1)).await;
    assert!(matches!(hear(&mut socket).await, Some(Frame::Refused(_))), "it has to begin with an opening");
    // A client that asks for nothing of this is spoken to as ever.
    let mut plain = open(&machine, ONE, None).await;
    let first = plain.next().await.unwrap().unwrap();
    assert_eq!(first.into_data(), BANNER);
}

#[tokio::test]
async fn a_client_that_only_sends_is_stopped_by_the_window() {
    let machine = Machine::start();
    let (mut socket, welcome) = begin(&machine).await;
    // Not even SSH: an endless first line, which the server refuses to read to its end.
    let piece = Bytes::from(vec![b'a'; 64 << 10]);
    let mut at = 0;
    let sending = async {
        while at <= 4 * WINDOW {
            let sent = socket.send(Message::Binary(Frame::Data(at, piece.clone()).encode())).await;
            if sent.is_err() {
                return;
            }
            at += piece.len() as u64;
        }
        panic!("{at} bytes were taken");
    };
    // It may be stopped by the end of the stream or by nobody reading any more.
    let _ = tokio::time::timeout(Duration::from_secs(3), sending).await;
    assert!(at <= 2 * WINDOW, "{at} bytes were taken");
    drop(socket);
    // And the agent serves others.
    let _ = welcome;
    begin(&machine).await;
}
