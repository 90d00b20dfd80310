//! What is open for a visitor of a preview ends when the right to look does, and there is room for so much of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use burstflare_app_edge::harness::{Harness, Parts};
use burstflare_app_edge::serve::{Bounds, serve};
use burstflare_ports::clock::Clock as _;
use burstflare_ports::memory::ManualClock;
use burstflare_ports::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::machine::Scripted;
use crate::preview::host;
use crate::support::{World, call, text};
use crate::tunnel::head;

const PATIENCE: Duration = Duration::from_secs(60);
/// Connections to one session's previews at once.
const OF_ONE: usize = 128;

/// A way to have something open.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A WebSocket.
    Socket,
    /// An answer that goes on.
    Stream,
    /// A request that is not answered yet.
    Waiting,
}

const WAYS: [Way; 3] = [Way::Socket, Way::Stream, Way::Waiting];

struct Place {
    world: World,
    clock: ManualClock,
    address: SocketAddr,
    token: String,
    session: String,
    other: String,
}

impl Place {
    async fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
        let machines = Arc::new(Scripted::default());
        let parts = Parts {
            runtime: machines.clone(),
            agents: machines,
            clock: Arc::new(clock.clone()),
            ..Parts::default()
        };
        let world = World { harness: Harness::with(parts).await.expect("a harness") };
        // What waits a moment for its turn is not waited for: time passes a little until the session runs.
        let moving = clock.clone();
        let ticking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                moving.advance(Duration::from_millis(5));
            }
        });
        let (token, _) = world.register("you@example.com").await;
        let template = world.template(&token, "t").await;
        let session = world.session(&token, "s", &template, "private").await;
        let other = world.session(&token, "other", &template, "private").await;
        ticking.abort();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, world.harness.router(), std::future::pending(), Bounds::default()));
        Self { world, clock, address, token, session, other }
    }

    /// The header of a browser that has entered with this token.
    async fn cookie(&self, token: &str) -> String {
        let path = format!("/api/v1/sessions/{}/attach", self.session);
        let wish = json!({ "purpose": "preview", "port": 3000 });
        let made = self.world.send(call("POST", &path).token(token).json(&wish)).await.expect(201);
        let enter = format!("/.flare/enter?ticket={}", text(&made["ticket"]));
        let entered = self.world.send(call("GET", &enter).host(&host(3000, &self.session))).await;
        format!("cookie: {}", entered.header("set-cookie").split(';').next().expect("a pair"))
    }

    async fn personal(&self, scope: &str) -> (String, String) {
        let wish = json!({ "name": scope, "scopes": [scope], "expires_in_s": 3600 });
        let made = self.world.send(call("POST", "/api/v1/tokens").token(&self.token).json(&wish)).await;
        let made = made.expect(201);
        (text(&made["token"]), text(&made["id"]))
    }

    /// The token of a member of the workspace who does not own the session.
    async fn member(&self) -> String {
        let invite = call("POST", "/api/v1/invites").token(&self.token).json(&json!({ "role": "member" }));
        let code = self.world.send(invite).await.expect(201)["code"].clone();
        let me = self.world.send(call("GET", "/api/v1/me").token(&self.token)).await.expect(200);
        let wish = json!({ "email": "member@example.com", "code": code });
        let made = self.world.send(call("POST", "/api/v1/auth/register").json(&wish)).await.expect(201);
        let path = format!("/api/v1/workspaces/{}/use", text(&me["workspace"]["id"]));
        let theirs = text(&made["tokens"]["access_token"]);
        let used = self.world.send(call("POST", &path).token(&theirs)).await.expect(200);
        text(&used["tokens"]["access_token"])
    }

    async fn show(&self, wish: Value) {
        let path = format!("/api/v1/sessions/{}/ports/3000", self.session);
        self.world.send(call("PUT", &path).token(&self.token).json(&wish)).await.expect(200);
    }

    async fn send(&self, session: &str, way: Way, credential: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (path, more) = match way {
            Way::Socket => ("/socket", upgrade),
            Way::Stream => ("/stream", ""),
            Way::Waiting => ("/silent", ""),
        };
        let credential = if credential.is_empty() { String::new() } else { format!("{credential}\r\n") };
        let host = host(3000, session);
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}{credential}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    /// Something open, with proof that it is.
    async fn open(&self, way: Way, credential: &str) -> Open {
        let mut stream = self.send(&self.session, way, credential).await;
        let expected: &[u8] = match way {
            Way::Socket => b"no key\n",
            Way::Stream => b"B\r\ndata: one\n\n\r\n",
            Way::Waiting => b"",
        };
        if !matches!(way, Way::Waiting) {
            let head = head(&mut stream).await;
            assert!(
                head.starts_with(if matches!(way, Way::Socket) { "HTTP/1.1 101" } else { "HTTP/1.1 200" }),
                "{head}"
            );
        }
        let mut first = vec![0; expected.len()];
        stream.read_exact(&mut first).await.expect("the beginning");
        assert_eq!(first, expected);
        Open { stream, way }
    }

    /// All ways at once.
    async fn all(&self, credential: &str) -> Vec<Open> {
        let mut open = Vec::new();
        for way in WAYS {
            open.push(self.open(way, credential).await);
        }
        open
    }
}

struct Open {
    stream: TcpStream,
    way: Way,
}

impl Open {
    async fn ends(mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let ended = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest));
        if let Way::Waiting = self.way {
            let head =
                tokio::time::timeout(PATIENCE, head(&mut self.stream)).await.expect("an answer in time");
            let refused = head.starts_with("HTTP/1.1 401") || head.starts_with("HTTP/1.1 503");
            assert!(refused, "{head}");
            return;
        }
        assert!(ended.await.is_ok(), "{:?} outlived the right to look", self.way);
        assert!(rest.is_empty(), "{:?} looks whole: {rest:?}", self.way);
    }

    async fn lives(&mut self) {
        match self.way {
            Way::Socket => {
                self.stream.write_all(b"still").await.expect("sent");
                let mut echo = [0; 5];
                let read = self.stream.read_exact(&mut echo);
                tokio::time::timeout(PATIENCE, read).await.expect("in time").expect("an echo");
            }
            // Nothing comes: neither bytes nor an end.
            Way::Stream | Way::Waiting => {
                let read = self.stream.try_read(&mut [0]);
                assert!(read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
            }
        }
    }
}

async fn all_end(open: Vec<Open>) {
    for one in open {
        one.ends().await;
    }
}

async fn all_live(open: &mut [Open]) {
    for one in open {
        one.lives().await;
    }
}

fn bearer(token: &str) -> String {
    format!("flare-authorization: Bearer {token}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_what_is_open_for_its_cookie_and_nothing_else() {
    let place = Place::new().await;
    place.show(json!({ "visibility": "public" })).await;
    let (personal, _) = place.personal("attach").await;
    let cookie = place.cookie(&place.token).await;
    let own = place.all(&cookie).await;
    let (mut other, mut unknown) = (place.all(&bearer(&personal)).await, place.all("").await);
    place.world.send(call("POST", "/api/v1/auth/logout").token(&place.token)).await.expect(204);
    all_end(own).await;
    all_live(&mut other).await;
    all_live(&mut unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_what_is_open_for_it_and_for_its_cookie() {
    let place = Place::new().await;
    let (personal, id) = place.personal("attach").await;
    let (cookie, mut own) = (place.cookie(&personal).await, place.all(&bearer(&place.token)).await);
    let (by_cookie, by_token) = (place.all(&cookie).await, place.all(&bearer(&personal)).await);
    let revoke = call("DELETE", &format!("/api/v1/tokens/{id}")).token(&place.token);
    place.world.send(revoke).await.expect(204);
    all_end(by_cookie).await;
    all_end(by_token).await;
    all_live(&mut own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_shown_to_fewer_is_closed_for_the_others() {
    let place = Place::new().await;
    place.show(json!({ "visibility": "public" })).await;
    let member = place.member().await;
    let (reader, _) = place.personal("read").await;
    let mut own = place.all(&bearer(&place.token)).await;
    let mut members = place.all(&bearer(&member)).await;
    let mut readers = place.all(&bearer(&reader)).await;
    let unknown = place.all("").await;
    place.show(json!({ "visibility": "workspace" })).await;
    all_end(unknown).await;
    all_live(&mut members).await;
    all_live(&mut readers).await;
    place.show(json!({ "visibility": "private" })).await;
    all_end(members).await;
    all_end(readers).await;
    all_live(&mut own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_for_a_while_ends_with_it() {
    let place = Place::new().await;
    let end = |minutes: u64| place.clock.now().after(Duration::from_secs(60 * minutes));
    place.show(json!({ "visibility": "public", "expires_at": end(10) })).await;
    let (mut own, unknown) = (place.all(&bearer(&place.token)).await, place.all("").await);
    // Longer than was said first.
    place.show(json!({ "visibility": "public", "expires_at": end(30) })).await;
    let mut unknown = unknown;
    place.clock.advance(Duration::from_secs(60 * 15));
    all_live(&mut unknown).await;
    place.clock.advance(Duration::from_secs(60 * 20));
    all_end(unknown).await;
    all_live(&mut own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_shows_nothing() {
    let place = Place::new().await;
    place.show(json!({ "visibility": "public" })).await;
    let (own, unknown) = (place.all(&bearer(&place.token)).await, place.all("").await);
    let path = format!("/api/v1/sessions/{}", place.session);
    place.world.send(call("DELETE", &path).token(&place.token)).await.expect(202);
    all_end(own).await;
    all_end(unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_has_room_for_so_many_and_takes_none_of_the_others() {
    let place = Place::new().await;
    let own = bearer(&place.token);
    let mut open = Vec::new();
    for number in 0..OF_ONE {
        open.push(place.open(WAYS[number % 2], &own).await);
    }
    for way in [Way::Socket, Way::Stream] {
        let mut refused = place.send(&place.session, way, &own).await;
        let head = head(&mut refused).await;
        assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1"), "{head}");
    }
    let path = call("GET", "/").host(&host(3000, &place.session));
    let full = place.world.send(path.header("flare-authorization", &format!("Bearer {}", place.token))).await;
    assert_eq!((full.status.as_u16(), full.problem().as_str()), (503, "too_many_connections"));
    let mut elsewhere = place.send(&place.other, Way::Socket, &own).await;
    assert!(head(&mut elsewhere).await.starts_with("HTTP/1.1 101"));
    open.truncate(OF_ONE - 2);
    // That somebody left is noticed soon, not at once.
    let look = async {
        loop {
            let mut again = place.send(&place.session, Way::Socket, &own).await;
            if head(&mut again).await.starts_with("HTTP/1.1 101") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("a place is free again");
}
