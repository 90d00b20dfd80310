//! Connections into a machine end when the right to be there does, and their end is recorded.

use std::net::SocketAddr;
use std::time::Duration;

use burstflare_app_edge::serve::{Bounds, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{World, call, text};
use crate::tenancy::KEY;
use crate::tunnel::{head, upgrade};

const PATIENCE: Duration = Duration::from_secs(30);

struct Place {
    world: World,
    address: SocketAddr,
    /// Of the owner.
    token: String,
}

impl Place {
    async fn new() -> Self {
        let world = World::new().await;
        let (token, _) = world.register("you@example.com").await;
        let template = world.template(&token, "t").await;
        world.session(&token, "s", &template, "private").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, world.harness.router(), std::future::pending(), Bounds::default()));
        Self { world, address, token }
    }

    async fn ticket(&self, token: &str) -> String {
        let attach = call("POST", "/api/v1/sessions/s/attach").token(token);
        let wish = json!({ "purpose": "ssh", "ssh_key": KEY });
        let attached = self.world.send(attach.json(&wish)).await.expect(201);
        format!("{}?ticket={}", text(&attached["url_path"]), text(&attached["ticket"]))
    }

    async fn inside(&self, token: &str) -> TcpStream {
        let mut stream = upgrade(self.address, &self.ticket(token).await).await;
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101"));
        let mut line = vec![0; KEY.len() + 1];
        stream.read_exact(&mut line).await.expect("the agent's line");
        stream.write_all(b"hello").await.expect("sent");
        stream.read_exact(&mut line[..5]).await.expect("an echo");
        stream
    }

    async fn personal(&self) -> (String, String) {
        let wish = json!({ "name": "ci", "scopes": ["attach"], "expires_in_s": 3600 });
        let made = self.world.send(call("POST", "/api/v1/tokens").token(&self.token).json(&wish)).await;
        let made = made.expect(201);
        (text(&made["token"]), text(&made["id"]))
    }

    /// The first line of `session.detach`, once it is there.
    async fn detached(&self, token: &str) -> Value {
        let look = async {
            loop {
                let log = self.world.send(call("GET", "/api/v1/audit").token(token)).await.expect(200);
                let lines = log["items"].as_array().cloned().unwrap_or_default();
                if let Some(line) = lines.into_iter().find(|line| line["action"] == "session.detach") {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("recorded in time")
    }
}

async fn ends(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection outlived the right to be there");
    assert!(rest.is_empty());
}

async fn lives(stream: &mut TcpStream) {
    stream.write_all(b"still").await.expect("sent");
    let mut echo = [0; 5];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut echo)).await.expect("in time").expect("an echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_what_was_opened_with_the_sign_in() {
    let place = Place::new().await;
    let (personal, _) = place.personal().await;
    let mut other = place.inside(&personal).await;
    let stream = place.inside(&place.token).await;
    let late = place.ticket(&place.token).await;
    place.world.send(call("POST", "/api/v1/auth/logout").token(&place.token)).await.expect(204);
    ends(stream).await;
    lives(&mut other).await;
    let mut refused = upgrade(place.address, &late).await;
    assert!(head(&mut refused).await.starts_with("HTTP/1.1 401"), "a ticket ends with its sign-in");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_token_ends_what_was_opened_with_it_and_the_end_is_recorded() {
    let place = Place::new().await;
    let (personal, id) = place.personal().await;
    let mut own = place.inside(&place.token).await;
    let stream = place.inside(&personal).await;
    let revoke = call("DELETE", &format!("/api/v1/tokens/{id}")).token(&place.token);
    place.world.send(revoke).await.expect(204);
    ends(stream).await;
    lives(&mut own).await;
    let line = place.detached(&place.token).await;
    let detail = &line["detail"];
    assert_eq!((&detail["purpose"], &detail["end"]), (&json!("ssh"), &json!("revoked")), "{line}");
    assert_eq!((&detail["bytes_in"], &detail["bytes_out"]), (&json!(5), &json!(KEY.len() + 1 + 5)), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_token_cuts_off_the_output_of_a_command() {
    const OUTPUT: &str = "{\"stdout\":\"ok\\n\"}\n";
    let place = Place::new().await;
    let (personal, id) = place.personal().await;
    let mut stream = TcpStream::connect(place.address).await.expect("connected");
    let wish = json!({ "argv": ["endless"] }).to_string();
    let request = format!(
        "POST /api/v1/sessions/s/exec HTTP/1.1\r\nhost: 127.0.0.1:8787\r\nauthorization: Bearer {personal}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{wish}",
        wish.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut chunk = vec![0; "12\r\n".len() + OUTPUT.len() + "\r\n".len()];
    stream.read_exact(&mut chunk).await.expect("output");
    assert_eq!(String::from_utf8_lossy(&chunk), format!("{:x}\r\n{OUTPUT}\r\n", OUTPUT.len()));
    let revoke = call("DELETE", &format!("/api/v1/tokens/{id}")).token(&place.token);
    place.world.send(revoke).await.expect(204);
    // Without the chunk that ends a whole answer.
    ends(stream).await;
    let line = place.detached(&place.token).await;
    let detail = &line["detail"];
    assert_eq!((&detail["purpose"], &detail["end"]), (&json!("exec"), &json!("revoked")), "{line}");
    assert_eq!(detail["bytes_out"], OUTPUT.len(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_machine_is_the_end_of_its_connections() {
    let place = Place::new().await;
    let stream = place.inside(&place.token).await;
    place.world.send(call("POST", "/api/v1/sessions/s/stop").token(&place.token)).await.expect(200);
    ends(stream).await;
    assert_eq!(place.detached(&place.token).await["detail"]["end"], "machine_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_has_left() {
    let place = Place::new().await;
    let mut stream = place.inside(&place.token).await;
    stream.shutdown().await.expect("closed");
    ends(stream).await;
    assert_eq!(place.detached(&place.token).await["detail"]["end"], "left");
}
