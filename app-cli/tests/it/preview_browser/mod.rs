//! Attacks on previews that only a browser can make, as it decides which cookies go where. Each test says what would go
//! wrong.
//!
//! To a browser the previews of one server are one site, and the server's own pages, like the evil ones here, are others.

mod cookies;
mod ours;
mod strangers;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use crate::browser::{Browser, Page};
use crate::preview::World;

const MANIFEST: &str = r#"on_start = "exec python3 /workspace/app.py"
[[ports]]
port = 3000
name = "a"
[[ports]]
port = 3001
name = "b"
"#;

/// The same application twice, on two origins. It notes all that reaches it, allows everybody everything by CORS, and sets
/// the cookies that it is asked for.
const APP: &str = r#"
import base64, hashlib, http.server, json, threading, urllib.parse
seen = []
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        length = int(self.headers.get('Content-Length') or 0)
        self.rfile.read(length)
        path, _, query = self.path.partition('?')
        port = self.server.server_address[1]
        if path == '/seen':
            return self.reply('application/json', json.dumps(seen))
        seen.append({'port': port, 'method': self.command, 'path': self.path, 'headers': str(self.headers)})
        if path == '/socket' and self.headers.get('Upgrade') == 'websocket':
            return self.socket()
        cookies = urllib.parse.parse_qs(query).get('cookie', [])
        self.reply('text/html', '<!doctype html><title>%d</title><body>application %d' % (port, port), cookies)
    do_GET = do_POST = do_PUT = do_OPTIONS = answer
    def reply(self, kind, text, cookies=[]):
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(text)))
        self.send_header('Access-Control-Allow-Origin', self.headers.get('Origin') or '*')
        self.send_header('Access-Control-Allow-Credentials', 'true')
        self.send_header('Access-Control-Allow-Methods', 'PUT')
        self.send_header('Access-Control-Allow-Headers', 'x-own, flare-authorization')
        for cookie in cookies: self.send_header('Set-Cookie', cookie)
        self.end_headers()
        self.wfile.write(text.encode())
    def socket(self):
        key = self.headers['Sec-WebSocket-Key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
        self.send_response(101)
        self.send_header('Upgrade', 'websocket')
        self.send_header('Connection', 'Upgrade')
        self.send_header('Sec-WebSocket-Accept', base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.flush()
        while self.connection.recv(65536): pass
        self.close_connection = True
    def log_message(self, *args): pass
for port in (3001, 3000):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), App)
    threading.Thread(target=server.serve_forever).start()
"#;

/// Our cookie's name where the server speaks plain http.
const COOKIE: &str = "flare-preview";

/// Two previews of a session, a browser, and somebody else's site.
struct Stage {
    world: World,
    browser: Browser,
    evil: String,
}

impl Stage {
    fn new() -> Option<Self> {
        let browser = Browser::new()?;
        let world = World::with(MANIFEST, APP)?;
        world.until(|items| items.iter().filter(|port| port["open"] == true).count() == 2);
        Some(Self { world, browser, evil: evil() })
    }

    /// The origin of a port.
    fn at(&self, port: u16) -> String {
        format!("http://{}", self.world.host_of(port))
    }

    /// The server's own for browsers.
    fn ours(&self) -> String {
        format!("http://flare.localhost:{}", self.world.port())
    }

    /// The address that lets a browser in, once.
    fn ticket(&self, port: u16, to: &str) -> String {
        let opened = self.world.place.flare(["open", "s", &port.to_string(), "--print"]).ok();
        format!("{}&to={to}", opened.out.trim())
    }

    fn enter(&self, page: &Page<'_>, port: u16) {
        page.go(&self.ticket(port, "/"));
        assert_eq!(page.text("document.title"), port.to_string());
    }

    /// What reached the applications so far.
    fn seen(&self) -> Vec<Value> {
        let (head, text) = self.world.ask("GET /seen", &[("Flare-Authorization", &self.world.bearer())]);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        serde_json::from_str(&text).expect("a list")
    }

    /// What reached one of them under a path.
    fn reached(&self, port: u16, path: &str) -> Vec<Value> {
        let seen = self.seen().into_iter();
        let ours = |one: &Value| {
            one["port"] == port && one["path"].as_str().is_some_and(|other| other.starts_with(path))
        };
        seen.filter(ours).collect()
    }
}

/// A site of somebody else on this machine, which serves an empty page; answers its origin.
fn evil() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 8192]);
                let page = "<!doctype html><title>evil</title><body>";
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
                let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
            });
        }
    });
    format!("http://evil.localhost:{port}")
}

/// Opens a WebSocket; whether it opened.
fn socket(url: &str) -> String {
    format!(
        "new Promise((open, shut) => {{ const s = new WebSocket('{url}'); s.onopen = open; s.onerror = shut }})"
    )
}

/// Sends a form to an address.
fn form(url: &str) -> String {
    format!(
        "const f = document.createElement('form'); f.method = 'POST'; f.action = '{url}'; f.enctype = 'text/plain';
         document.body.append(f); f.submit()"
    )
}

/// Puts an address in a frame; resolves when something is there.
fn frame(url: &str) -> String {
    format!(
        "new Promise(done => {{ const f = document.createElement('iframe'); f.onload = done; f.src = '{url}';
         document.body.append(f) }}).then(() => true)"
    )
}
