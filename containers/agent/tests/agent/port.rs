//! Ports: seen as they open and close, and reached.

use burstflare_ports::wire::EPOCH_HEADER;
use burstflare_ports::wire::port::{APP_ANSWER_HEADER, APP_HOST_HEADER, OpenPort, OpenPorts};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

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
import http.server
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
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
