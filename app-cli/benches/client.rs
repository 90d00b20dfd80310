//! One warm connection, spoken to by hand: nothing between the clock and the bytes.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::wait;

pub(crate) struct Client {
    port: u16,
    stream: BufReader<TcpStream>,
    token: String,
}

struct Head {
    status: u16,
    length: Option<usize>,
}

impl Client {
    pub(crate) fn register(port: u16) -> Self {
        let mut client = Self::connect(port, String::new());
        let answer = client.json("POST", "/api/v1/auth/register", &json!({ "email": "bench@example.com" }));
        client.token = answer["tokens"]["access_token"].as_str().expect("a token").to_owned();
        client
    }

    fn connect(port: u16, token: String) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { port, stream: BufReader::new(stream), token }
    }

    /// The same person on another connection.
    pub(crate) fn another(&self) -> Self {
        Self::connect(self.port, self.token.clone())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A built and promoted template of one small file.
    pub(crate) fn template(&mut self) -> String {
        let template = self.json("POST", "/api/v1/templates", &json!({ "name": "bench" }));
        let id = template["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/templates/{id}/versions");
        let version = self.json("POST", &path, &json!({ "label": "1" }));
        let version = version["id"].as_str().unwrap().to_owned();
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in
            [("flare.toml", "setup = [\"echo built > built.txt\"]\n"), ("hello.txt", "hello\n")]
        {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let bundle = zstd::encode_all(&tar.into_inner().unwrap()[..], 3).unwrap();
        self.send("PUT", &format!("{path}/{version}/bundle"), "application/zstd", &bundle);
        let head = self.head();
        let answer = self.body(&head);
        assert!(head.status < 300, "upload: {}", String::from_utf8_lossy(&answer));
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let now = self.json("GET", &format!("{path}/{version}"), &Value::Null);
            match now["state"].as_str() {
                Some("ready") => break,
                Some("building") if Instant::now() < until => wait(Duration::from_millis(20)),
                _ => panic!("the build: {now}"),
            }
        }
        self.json("POST", &format!("/api/v1/templates/{id}/promote"), &json!({ "version": version }));
        id
    }

    pub(crate) fn create_session(&mut self, name: &str, template: &str) -> String {
        let session = self.json("POST", "/api/v1/sessions", &json!({ "name": name, "template": template }));
        session["id"].as_str().unwrap().to_owned()
    }

    /// Runs `echo ok` and stops the clock at the first byte of its output; the rest is read all the same.
    pub(crate) fn exec_first_byte(&mut self, session: &str) {
        let body = json!({ "argv": ["/bin/sh", "-c", "echo ok"] }).to_string();
        self.send("POST", &format!("/api/v1/sessions/{session}/exec"), "application/json", body.as_bytes());
        let head = self.head();
        let answer = self.body(&head);
        let text = String::from_utf8_lossy(&answer);
        assert!(head.status == 200 && text.contains("ok"), "exec: {} {text}", head.status);
    }

    pub(crate) fn delete_session(&mut self, session: &str) {
        self.json("DELETE", &format!("/api/v1/sessions/{session}"), &Value::Null);
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.send("GET", &format!("/api/v1/sessions/{session}"), "", &[]);
            let head = self.head();
            self.body(&head);
            if head.status == 404 {
                return;
            }
            assert!(Instant::now() < until, "the session does not go");
            wait(Duration::from_millis(5));
        }
    }

    pub(crate) fn list_request(&self) -> Vec<u8> {
        format!(
            "GET /api/v1/sessions?limit=50 HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {}\r\n\r\n",
            self.port, self.token
        )
        .into_bytes()
    }

    pub(crate) fn plain_request(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n\r\n", self.port).into_bytes()
    }

    pub(crate) fn json(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let media = if body.is_null() { "" } else { "application/json" };
        self.send(method, path, media, text.as_bytes());
        let head = self.head();
        let answer = self.body(&head);
        let text = String::from_utf8_lossy(&answer);
        assert!((200..300).contains(&head.status), "{method} {path}: {} {text}", head.status);
        if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).expect("JSON") }
    }

    /// A connection that rested longer than the server keeps one is replaced.
    fn revive(&mut self) {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).unwrap();
        let gone = match stream.peek(&mut [0]) {
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            // Its end, since nothing is unread between two requests.
            Ok(_) => true,
        };
        stream.set_nonblocking(false).unwrap();
        if gone {
            *self = Self::connect(self.port, std::mem::take(&mut self.token));
        }
    }

    fn send(&mut self, method: &str, path: &str, media: &str, body: &[u8]) {
        self.revive();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n", self.port);
        if !self.token.is_empty() {
            request.push_str(&format!("authorization: Bearer {}\r\n", self.token));
        }
        if !media.is_empty() {
            request.push_str(&format!("content-type: {media}\r\n"));
        }
        if method != "GET" {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    fn head(&mut self) -> Head {
        let mut head = Head { status: 0, length: Some(0) };
        let mut first = true;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if first {
                head.status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
                first = false;
            } else if line.is_empty() {
                return head;
            } else if let Some(length) = line.strip_prefix("content-length:") {
                head.length = Some(length.trim().parse().unwrap());
            } else if line == "transfer-encoding: chunked" {
                head.length = None;
            }
        }
    }

    fn body(&mut self, head: &Head) -> Vec<u8> {
        if let Some(length) = head.length {
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).unwrap();
            return body;
        }
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
}
