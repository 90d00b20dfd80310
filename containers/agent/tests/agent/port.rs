//! Ports: seen as they open and close, and reached.

use burstflare_ports::wire::port::{APP_ANSWER_HEADER, APP_HOST_HEADER, OpenPort, OpenPorts};
use burstflare_ports::wire::{Activity, EPOCH_HEADER, Reason};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::machine::{EPOCH, KEY, Machine};

/// The lines of `/v1/ports/watch`.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    async fn of(machine: &Machine) -> Self {
        let answer = machine.open(Method::GET, "/v1/ports/watch", Bytes::new()).await;
        assert_eq!(answer.status(), 200);
        Self { body: answer.into_body(), rest: Vec::new() }
    }

    /// Reads lines until one is so.
    async fn until(&mut self, what: &str, so: fn(&[OpenPort]) -> bool) -> Vec<OpenPort> {
        let reading = async {
            loop {
                while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.rest.drain(..=end).collect();
                    let ports: OpenPorts = serde_json::from_slice(&line).unwrap();
                    if so(&ports.ports) {
                        return ports.ports;
                    }
                }
                let frame = self.body.frame().await.unwrap().unwrap();
                self.rest.extend_from_slice(&frame.into_data().unwrap());
            }
        };
        let patience = std::time::Duration::from_secs(30);
        let found = tokio::time::timeout(patience, reading).await;
        assert!(found.is_ok(), "never: {what}");
        found.unwrap()
    }
}

fn port_of(ports: &[OpenPort], process: &str) -> Option<u16> {
    ports.iter().find(|port| port.process.as_deref() == Some(process)).map(|port| port.port)
}

/// Starts a script in the background of the machine, as user of the agent.
async fn python(machine: &Machine, script: &str) -> String {
    let file = machine.scratch().join("script.py");
    std::fs::write(&file, script).unwrap();
    let file = file.to_str().unwrap();
    machine.sh(&format!("python3 {file} </dev/null >/dev/null 2>&1 & echo $!")).await
}

const SERVER: &str = "
import http.server, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        if self.headers.get('Upgrade') == 'websocket':
            self.send_response(101)
            self.send_header('Upgrade', 'websocket')
            self.send_header('Connection', 'Upgrade')
            self.end_headers()
            self.wfile.flush()
            while True:
                piece = self.connection.recv(65536)
                if not piece: break
                self.connection.sendall(piece)
            self.close_connection = True
            return
        if self.path == '/ticks':
            self.send_response(200)
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            while True:
                self.wfile.write(b'5\\r\\ntick\\n\\r\\n')
                time.sleep(0.01)
        body = ('%s %s %s' % (self.command, self.path, self.headers)).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('127.0.0.1', 0), H).serve_forever()
";

async fn app(machine: &Machine, port: u16, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(format!("/v1/ports/{port}/http{path}"))
        .header("host", "agent")
        .header("authorization", format!("Bearer {KEY}"))
        .header(EPOCH_HEADER, EPOCH)
        .header(APP_HOST_HEADER, "app.example:1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    machine.connect().await.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_port_is_seen_as_it_opens_is_reached_and_seen_as_it_closes() {
    let machine = Machine::start();
    let mut lines = Lines::of(&machine).await;
    assert!(lines.until("nothing at first", |_| true).await.is_empty());
    let pid = python(&machine, SERVER).await;
    let ports = lines.until("open", |ports| !ports.is_empty()).await;
    let port = port_of(&ports, "python3").unwrap();
    let answer = app(&machine, port, "/a//../b?c=%2F&d", &[("x-one", "1")]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[APP_ANSWER_HEADER], "1");
    let text = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(text.starts_with("GET /a//../b?c=%2F&d "), "{text}");
    assert!(text.contains("host: app.example:1") && text.contains("x-one: 1"), "{text}");
    assert!(!text.contains(KEY) && !text.to_lowercase().contains("flare"), "{text}");
    machine.sh(&format!("kill {pid}")).await;
    lines.until("closed", <[OpenPort]>::is_empty).await;
    let answer = app(&machine, port, "/", &[]).await;
    assert_eq!(answer.status(), 502);
    assert!(!answer.headers().contains_key(APP_ANSWER_HEADER));
}

async fn last_active(machine: &Machine) -> (u64, Reason) {
    let (_, body) = machine.get("/v1/activity").await;
    let activity: Activity = serde_json::from_slice(&body).unwrap();
    (activity.mark, activity.reason)
}

#[tokio::test]
async fn requests_and_messages_are_activity_and_neither_pings_nor_what_is_pushed_are() {
    let machine = Machine::start();
    let mut lines = Lines::of(&machine).await;
    python(&machine, SERVER).await;
    let ports = lines.until("open", |ports| !ports.is_empty()).await;
    let port = port_of(&ports, "python3").unwrap();
    assert_eq!(last_active(&machine).await.1, Reason::Exec);
    let answer = app(&machine, port, "/", &[]).await;
    answer.into_body().collect().await.unwrap();
    let (served, reason) = last_active(&machine).await;
    assert_eq!(reason, Reason::Preview, "a request that was served");

    let mut ticks = app(&machine, port, "/ticks", &[]).await.into_body();
    ticks.frame().await.unwrap().unwrap();
    let (asked, _) = last_active(&machine).await;
    assert!(asked > served);
    let handshake = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x")];
    let mut answer = app(&machine, port, "/", &handshake).await;
    assert_eq!(answer.status(), 101);
    let mut socket = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let (opened, _) = last_active(&machine).await;
    let mut echo = async |frame: &[u8]| {
        // Longer than the clock of activity takes to go on.
        for _ in 0..5 {
            ticks.frame().await.unwrap().unwrap();
        }
        socket.write_all(frame).await.unwrap();
        let mut back = vec![0; frame.len()];
        socket.read_exact(&mut back).await.unwrap();
        assert_eq!(back, frame);
        last_active(&machine).await.0
    };
    assert_eq!(echo(b"\x89\x80mask").await, opened, "a ping, and ticks of another answer");
    assert_eq!(echo(b"\x8a\x82mask..").await, opened, "a pong");
    assert!(echo(b"\x81\x82mask..").await > opened, "a message");
}
