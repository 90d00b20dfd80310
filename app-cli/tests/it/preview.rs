//! A real application in a session, seen through its preview and through a forwarded port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::flare::{EXE, PATIENCE, Place, Server, have, session};

const MANIFEST: &str = r#"on_start = "exec python3 /workspace/app.py"
[[ports]]
port = 3000
name = "web"
"#;

/// Answers what it was asked, counts uploads, tells events one by one, and echoes over a WebSocket.
const APP: &str = r#"
import base64, hashlib, http.server, threading
go = threading.Event()
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header('Set-Cookie', 'flare-preview=tossed; Path=/')
        self.send_header('Set-Cookie', 'mine=1; Domain=preview.localhost')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == '/events':
            self.send_response(200)
            self.send_header('Content-Type', 'text/event-stream')
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            for text in ('data: one\n\n', 'data: two\n\n'):
                self.wfile.write(b'%x\r\n%s\r\n' % (len(text), text.encode()))
                self.wfile.flush()
                go.wait(60)
            self.wfile.write(b'0\r\n\r\n')
        elif self.path == '/go':
            go.set()
            self.answer('gone')
        elif self.headers.get('Upgrade') == 'websocket':
            key = self.headers['Sec-WebSocket-Key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
            self.send_response(101)
            self.send_header('Upgrade', 'websocket')
            self.send_header('Connection', 'Upgrade')
            self.send_header('Sec-WebSocket-Accept', base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            self.wfile.flush()
            while True:
                piece = self.connection.recv(65536)
                if not piece: break
                self.connection.sendall(piece)
            self.close_connection = True
        else:
            self.answer('%s\n%s' % (self.path, self.headers))
    def do_POST(self):
        left, digest = int(self.headers['Content-Length']), hashlib.sha256()
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            left -= len(piece)
            digest.update(piece)
        self.answer(digest.hexdigest())
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(('127.0.0.1', 3000), App).serve_forever()
"#;

/// A session in which an application runs.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) server: Server,
    id: String,
    token: String,
}

impl World {
    fn new() -> Option<Self> {
        Self::with(MANIFEST, APP)
    }

    /// One with this manifest, and this as `app.py`.
    pub(crate) fn with(manifest: &str, app: &str) -> Option<Self> {
        if !have("python3") {
            return None;
        }
        let place = Place::new();
        let folder = place.path("work/template");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("flare.toml"), manifest).expect("written");
        std::fs::write(folder.join("app.py"), app).expect("written");
        let server = place.server();
        let id = session(&place, &server, Some(&folder));
        let token = place.flare(["auth", "token"]).ok().out.trim().to_owned();
        let world = Self { place, server, id, token };
        world.until(|items| items.iter().any(|port| port["port"] == 3000 && port["open"] == true));
        Some(world)
    }

    /// A port of the session as one of this machine.
    pub(crate) fn forward(&self, port: u16) -> Forward {
        let mut command = self.place.command(EXE);
        let words = ["--json".to_owned(), "port-forward".to_owned(), "s".to_owned(), format!("0:{port}")];
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().expect("runs");
        let mut out = String::new();
        let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
        let document: Value = loop {
            assert_ne!(reader.read_line(&mut out).expect("a document"), 0, "{out}");
            if let Ok(document) = serde_json::from_str(&out) {
                break document;
            }
        };
        let address = document["forwards"][0]["local"].as_str().expect("an address").to_owned();
        Forward { child, address }
    }

    /// Kills the server and starts another one in its place.
    pub(crate) fn restart(self) -> Self {
        let port = self.port().to_owned();
        let Self { place, server, id, token } = self;
        server.signal(rustix::process::Signal::KILL);
        assert_eq!(server.ended(), None, "killed, not ended");
        let server = place.server_with(&["--port", &port]);
        Self { place, server, id, token }
    }

    /// Looks at the ports until it is so.
    pub(crate) fn until(&self, so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let list = self.place.flare(["session", "ports", "s", "--json"]).ok().json();
            let items = list["items"].as_array().cloned().unwrap_or_default();
            if so(&items) {
                return items;
            }
            assert!(Instant::now() < end, "never so: {list}");
        }
    }

    pub(crate) fn authority(&self) -> &str {
        self.server.url.strip_prefix("http://").expect("plain http")
    }

    /// The port at which the server answers.
    pub(crate) fn port(&self) -> &str {
        self.authority().rsplit_once(':').expect("a port").1
    }

    /// The preview's host.
    fn host(&self) -> String {
        self.host_of(3000)
    }

    /// Another port's.
    pub(crate) fn host_of(&self, port: u16) -> String {
        let label = self.id["ses_".len()..].to_ascii_lowercase();
        format!("{port}--{label}.preview.localhost:{}", self.port())
    }

    pub(crate) fn send(&self, head: &str, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = TcpStream::connect(self.authority()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut text = format!("{head} HTTP/1.1\r\nHost: {}\r\n", self.host());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all((text + "\r\n").as_bytes()).expect("sent");
        stream
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Head and body of an answer with a length.
    pub(crate) fn ask(&self, head: &str, headers: &[(&str, &str)]) -> (String, String) {
        answer(&mut BufReader::new(self.send(head, headers)))
    }
}

fn head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a head"), 0, "{head}");
    }
    head
}

fn answer(reader: &mut impl BufRead) -> (String, String) {
    let head = head(reader);
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

#[test]
fn a_private_preview_is_entered_by_ticket_or_token_and_by_nobody_else() {
    let Some(world) = World::new() else { return };
    let (refused, _) = world.ask("GET /", &[]);
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let (sent, _) = world.ask("GET /", &[("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")]);
    assert!(sent.starts_with("HTTP/1.1 303") && sent.contains("http://flare.localhost:"), "{sent}");

    let bearer = world.bearer();
    let own = [
        ("Flare-Authorization", bearer.as_str()),
        ("Authorization", "Basic eDp5"),
        ("X-Forwarded-For", "6.6.6.6"),
    ];
    let (seen, text) = world.ask("GET /a//b?c=%2F", &own);
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    let text = text.to_ascii_lowercase();
    assert!(text.starts_with("/a//b?c=%2f\n"), "{text}");
    assert!(text.contains("authorization: basic edp5") && !text.contains("flare"), "{text}");
    assert!(text.contains("x-forwarded-for: 127.0.0.1") && !text.contains("6.6.6.6"), "{text}");
    assert!(text.contains(&format!("host: {}", world.host())), "{text}");
    let cookies: Vec<&str> =
        seen.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie")).collect();
    assert_eq!(cookies.len(), 1, "{seen}");
    assert!(cookies[0].ends_with("mine=1"), "{seen}");

    let opened = world.place.flare(["open", "s", "web", "--json"]).ok().json();
    let url = opened["url"].as_str().expect("a URL");
    assert_eq!(url, format!("http://{}/.flare/enter", world.host()));
    let enter = format!("GET /.flare/enter?ticket={}&to=/deep", opened["ticket"].as_str().expect("a ticket"));
    let (entered, _) = world.ask(&enter, &[]);
    assert!(entered.starts_with("HTTP/1.1 303"), "{entered}");
    assert!(entered.contains(&format!("http://{}/deep", world.host())), "{entered}");
    let line =
        entered.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")).expect("a cookie");
    assert!(
        line.contains("; HttpOnly; SameSite=Lax") && !line.to_ascii_lowercase().contains("domain"),
        "{line}"
    );
    let cookie = line["set-cookie: ".len()..].split(';').next().expect("a pair").to_owned();
    assert!(world.ask(&enter, &[]).0.starts_with("HTTP/1.1 401"), "a ticket works once");

    let tossed = format!("flare-preview=tossed; theirs=2; {cookie}");
    let (seen, text) = world.ask("GET /", &[("Cookie", &tossed)]);
    assert!(seen.starts_with("HTTP/1.1 200"), "a tossed cookie does not win: {seen}");
    assert!(text.contains("theirs=2") && !text.contains("flare-preview"), "{text}");
    let foreign = [("Cookie", cookie.as_str()), ("Origin", "http://evil.example")];
    assert!(world.ask("POST /", &foreign).0.starts_with("HTTP/1.1 403"));

    world.place.flare(["session", "ports", "s", "--set", "3000=public"]).ok();
    assert!(world.ask("GET /", &[]).0.starts_with("HTTP/1.1 200"), "public");
    world.place.flare(["session", "ports", "s", "--set", "3000=private"]).ok();
    assert!(world.ask("GET /", &[]).0.starts_with("HTTP/1.1 401"), "private again at once");

    world.place.flare(["auth", "logout"]).ok();
    assert!(world.ask("GET /", &[("Cookie", &cookie)]).0.starts_with("HTTP/1.1 401"), "signed out at once");
}

#[test]
fn events_come_one_by_one_and_websockets_echo() {
    let Some(world) = World::new() else { return };
    let bearer = world.bearer();
    let own = ("Flare-Authorization", bearer.as_str());
    let mut events = BufReader::new(world.send("GET /events", &[own]));
    assert!(head(&mut events).starts_with("HTTP/1.1 200"));
    let mut until = |what: &str| {
        let mut line = String::new();
        while !line.contains(what) {
            assert_ne!(events.read_line(&mut line).expect("an event"), 0, "{line}");
        }
    };
    // The second one is not sent before somebody asks for it.
    until("data: one");
    world.ask("GET /go", &[own]);
    until("data: two");

    let handshake = [
        own,
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut socket = BufReader::new(world.send("GET /socket", &handshake));
    let switched = head(&mut socket);
    assert!(
        switched.starts_with("HTTP/1.1 101") && switched.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{switched}"
    );
    socket.get_mut().write_all(b"\x82\x05hello").expect("sent");
    let mut echoed = [0; 7];
    socket.read_exact(&mut echoed).expect("an echo");
    assert_eq!(&echoed, b"\x82\x05hello");
}

/// `PREVIEW_MEGABYTES` says how much; the server holds none of it.
#[test]
fn a_large_upload_passes_and_nothing_is_held() {
    let Some(world) = World::new() else { return };
    let megabytes =
        std::env::var("PREVIEW_MEGABYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(200_usize);
    let piece: Vec<u8> = (0..1_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let file = world.place.path("work/piece");
    std::fs::write(&file, &piece).expect("written");
    let sum = format!("for i in $(seq {megabytes}); do cat piece; done | sha256sum");
    let wanted = crate::flare::run(world.place.command("sh").args(["-c", &sum])).ok();
    let before = resident(world.server.pid());
    let bearer = world.bearer();
    let length = (megabytes << 20).to_string();
    let mut stream = world.send("POST /", &[("Flare-Authorization", &bearer), ("Content-Length", &length)]);
    for _ in 0..megabytes {
        stream.write_all(&piece).expect("taken");
    }
    let (head, digest) = answer(&mut BufReader::new(stream));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(Some(digest.as_str()), wanted.out.split_whitespace().next());
    let grown = resident(world.server.pid()).saturating_sub(before);
    eprintln!("{megabytes} MiB passed, the server grew by {grown} KiB");
    assert!(grown < 64 << 10, "the server grew by {grown} KiB");
}

/// The most a process has held in memory, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn ports_are_forwarded_and_told_as_they_open_and_close() {
    let Some(world) = World::new() else { return };
    let forward = world.forward(3000);
    let local = &forward.address;
    assert!(local.starts_with("127.0.0.1:"), "{local}");
    // Several at once, and one whose client has said everything before the answer comes.
    let mut streams: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(local).expect("connected")).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
            .write_all(format!("GET /{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("said");
    }
    for (number, stream) in streams.into_iter().enumerate() {
        let (head, text) = answer(&mut BufReader::new(stream));
        assert!(
            head.starts_with("HTTP/1.1 200") && text.starts_with(&format!("/{number}\n")),
            "{head}{text}"
        );
    }

    world.place.flare(["session", "exec", "s", "--", "pkill", "-f", "app.py"]).ok();
    world.until(|items| items.iter().any(|port| port["port"] == 3000 && port["open"] == false));
    let told = events(&world, &["port.opened", "port.closed"]);
    assert!(told.contains("\"port\":3000") && told.contains("python3"), "{told}");
    let (head, _) = world.ask("GET /", &[("Flare-Authorization", &world.bearer())]);
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    world.place.flare(["session", "stop", "s"]).ok();
    let (head, _) = world.ask("GET /", &[("Flare-Authorization", &world.bearer())]);
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let state = world.place.flare(["session", "show", "s", "--json"]).ok().json()["state"].clone();
    assert_eq!(state, "sleeping", "a preview wakes nobody");
}

/// The workspace's events from their beginning, until these kinds were told.
fn events(world: &World, kinds: &[&str]) -> String {
    let mut stream = TcpStream::connect(world.authority()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = format!(
        "GET /api/v1/events?after=0 HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\r\n",
        world.authority(),
        world.bearer()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    let mut reader = BufReader::new(stream);
    while !kinds.iter().all(|kind| text.contains(&format!("event: {kind}\n"))) || !text.ends_with("\n\n") {
        assert_ne!(reader.read_line(&mut text).expect("events"), 0, "{text}");
    }
    text
}

/// `flare port-forward`, until it is dropped.
pub(crate) struct Forward {
    pub(crate) child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
