//! Terminals by the API.

use std::time::Duration;

use burstflare_app_edge::serve::{Bounds, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{World, call, text};
use crate::tunnel::{head, upgrade};

#[tokio::test]
async fn terminals_are_listed_made_and_closed() {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let template = world.template(&token, "t").await;
    world.session(&token, "s", &template, "private").await;
    let path = "/api/v1/sessions/s/terminals";
    let list = world.send(call("GET", path).token(&token)).await.expect(200);
    let one = &list["items"][0];
    assert_eq!((&one["id"], &one["title"], &one["rows"]), (&json!(1), &json!("a title"), &json!(24)));
    assert_eq!((&one["ended"], &list["next_cursor"]), (&Value::Null, &Value::Null));
    world.send(call("POST", path).token(&token)).await.expect(201);
    let wish = json!({ "argv": ["top"], "rows": 5, "columns": 9 });
    world.send(call("POST", path).token(&token).json(&wish)).await.expect(201);
    let wrong = world.send(call("POST", path).token(&token).json(&json!({ "rows": -1 }))).await;
    assert_eq!((wrong.status.as_u16(), wrong.problem()), (400, "invalid".to_owned()));
    world.send(call("DELETE", &format!("{path}/1")).token(&token)).await.expect(204);
    let gone = world.send(call("DELETE", &format!("{path}/7")).token(&token)).await;
    assert_eq!((gone.status.as_u16(), gone.problem()), (404, "not_found".to_owned()));
    let bad = world.send(call("DELETE", &format!("{path}/x")).token(&token)).await;
    assert_eq!((bad.status.as_u16(), bad.json()["field"].clone()), (400, json!("terminal")));
    let log = world.send(call("GET", "/api/v1/audit").token(&token)).await.expect(200);
    let actions: Vec<_> =
        log["items"].as_array().into_iter().flatten().map(|line| text(&line["action"])).collect();
    for action in ["session.terminal.create", "session.terminal.close"] {
        assert!(actions.iter().any(|found| found == action), "{action}: {actions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_takes_a_ticket_for_terminals() {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let template = world.template(&token, "t").await;
    let session = world.session(&token, "s", &template, "private").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, world.harness.router(), std::future::pending(), Bounds::default()));
    let attach = async || {
        let wish = call("POST", "/api/v1/sessions/s/attach").token(&token);
        let made = world.send(wish.json(&json!({ "purpose": "terminal" }))).await.expect(201);
        assert_eq!(made["url_path"], format!("/api/v1/sessions/{session}/terminals"));
        text(&made["ticket"])
    };
    let path = |id: &str, ticket: &str| format!("/api/v1/sessions/s/terminals/{id}?ticket={ticket}");

    let mut view = upgrade(address, &path("1", &attach().await)).await;
    assert!(head(&mut view).await.starts_with("HTTP/1.1 101"));
    let mut line = [0; 7];
    view.read_exact(&mut line).await.expect("the agent");
    assert_eq!(&line, b"no key\n");
    view.write_all(b"bytes").await.expect("sent");
    tokio::time::timeout(Duration::from_secs(30), view.read_exact(&mut line[..5]))
        .await
        .expect("in time")
        .expect("an echo");

    let mut none = upgrade(address, &path("9", &attach().await)).await;
    assert!(head(&mut none).await.starts_with("HTTP/1.1 404"));
    let ticket = attach().await;
    let mut other = upgrade(address, &format!("/api/v1/sessions/s/ssh?ticket={ticket}")).await;
    assert!(head(&mut other).await.starts_with("HTTP/1.1 401"), "each ticket has its purpose");
    // A page of somebody else's, which browsers let open WebSockets anywhere.
    let mut foreign = TcpStream::connect(address).await.expect("connected");
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: 127.0.0.1:8787\r\norigin: http://evil.example\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        path("1", &ticket)
    );
    foreign.write_all(request.as_bytes()).await.expect("sent");
    assert!(head(&mut foreign).await.starts_with("HTTP/1.1 403"));
    let wish = call("POST", "/api/v1/sessions/s/attach").token(&token);
    let keyed =
        world.send(wish.json(&json!({ "purpose": "terminal", "ssh_key": crate::tenancy::KEY }))).await;
    assert_eq!(keyed.status, 400);
}
