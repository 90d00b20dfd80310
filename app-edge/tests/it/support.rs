//! A control plane with scripted machines, and requests to it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use burstflare_app_edge::harness::{Harness, Parts};
use burstflare_app_edge::{ClientAddress, EdgeConfig};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Snapshot, SnapshotKind, SnapshotState};
use burstflare_ports::store::{ChangeSet, Family, Guard, Key, Put};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::machine::Scripted;

pub(crate) struct World {
    pub(crate) harness: Harness,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The code of a problem document, which it has to be.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        for field in ["type", "title", "detail", "hint", "request_id"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
        }
        assert_eq!(problem["request_id"], self.header("flare-request-id"));
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }
}

pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) from: IpAddr,
}

pub(crate) fn call(method: &str, path: &str) -> Call {
    Call {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: vec![("host".to_owned(), "127.0.0.1:8787".to_owned())],
        body: Vec::new(),
        from: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

impl Call {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.headers[0].1);
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", media_type)
    }

    pub(crate) fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method.as_str()).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if !self.body.is_empty() {
            request = request.header("content-length", self.body.len());
        }
        request.extension(ClientAddress(self.from)).body(Body::from(self.body)).expect("a request")
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(EdgeConfig::dev(8787)).await
    }

    pub(crate) async fn with(edge: EdgeConfig) -> Self {
        let machines = Arc::new(Scripted::default());
        let parts = Parts { runtime: machines.clone(), agents: machines, edge, ..Parts::default() };
        Self { harness: Harness::with(parts).await.expect("a harness") }
    }

    /// The head of the answer; the body is dropped.
    pub(crate) async fn status(&self, call: Call) -> StatusCode {
        self.harness.router().oneshot(call.request()).await.expect("infallible").status()
    }

    pub(crate) async fn send(&self, call: Call) -> Answer {
        let response = self.harness.router().oneshot(call.request()).await.expect("infallible");
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes().to_vec();
        Answer { status: head.status, headers: head.headers, bytes }
    }

    /// A new account; answers its access token and the whole registration.
    pub(crate) async fn register(&self, email: &str) -> (String, Value) {
        let made = self
            .send(call("POST", "/api/v1/auth/register").json(&json!({ "email": email })))
            .await
            .expect(201);
        (text(&made["tokens"]["access_token"]), made)
    }

    /// A template with a promoted version 1.0.0; answers its id.
    pub(crate) async fn template(&self, token: &str, name: &str) -> String {
        let made =
            self.send(call("POST", "/api/v1/templates").token(token).json(&json!({ "name": name }))).await;
        let template = text(&made.expect(201)["id"]);
        self.upload(token, &template, "1.0.0").await;
        let promote = format!("/api/v1/templates/{template}/promote");
        self.send(call("POST", &promote).token(token).json(&json!({ "version": "1.0.0" }))).await.expect(200);
        template
    }

    /// Uploads a version and waits for its build; answers the build.
    pub(crate) async fn upload(&self, token: &str, template: &str, label: &str) -> Value {
        let versions = format!("/api/v1/templates/{template}/versions");
        self.send(call("POST", &versions).token(token).json(&json!({ "label": label }))).await.expect(201);
        let bundle = call("PUT", &format!("{versions}/{label}/bundle")).token(token);
        let uploaded =
            self.send(bundle.body("application/gzip", bundle_of("setup = [\"true\"]\n"))).await.expect(201);
        let build = format!("/api/v1/builds/{}", text(&uploaded["build_id"]));
        self.until(token, &build, |build| build["state"] != "queued" && build["state"] != "running").await
    }

    /// A running session; answers its id.
    pub(crate) async fn session(&self, token: &str, name: &str, template: &str, sharing: &str) -> String {
        let wish = json!({ "name": name, "template": template, "sharing": sharing });
        let made = self.send(call("POST", "/api/v1/sessions").token(token).json(&wish)).await.expect(201);
        let session = text(&made["id"]);
        let path = format!("/api/v1/sessions/{session}");
        self.until(token, &path, |session| session["state"] == "running").await;
        session
    }

    /// A complete snapshot of a session, as a record alone; answers its id.
    pub(crate) async fn snapshot(&self, workspace: &str, session: &str) -> String {
        let store = &self.harness.plane().ports().store;
        let mut random = [0; 10];
        self.harness.plane().ports().entropy.fill(&mut random).expect("chance");
        let created_at = self.harness.plane().ports().clock.now();
        let snapshot = Snapshot {
            id: Id::new(created_at, random),
            workspace: workspace.parse().expect("an id"),
            session: session.parse().expect("an id"),
            kind: SnapshotKind::Manual,
            state: SnapshotState::Complete,
            label: None,
            parent: None,
            format: 1,
            blob: "none".parse().expect("a key"),
            digest: String::new(),
            files: 0,
            bytes: 0,
            stored: 0,
            packed: 0,
            epoch: 1,
            verified_at: None,
            due_at: None,
            failure: None,
            created_at,
            revision: 1,
        };
        let mut change = ChangeSet::new(Family::Workspace(snapshot.workspace));
        change.guards.push(Guard::Absent(Key::Snapshot(snapshot.id)));
        change.puts.push(Put::Snapshot(snapshot.clone()));
        store.commit(&change).await.expect("a record");
        snapshot.id.to_string()
    }

    /// Reads until it is so, at most ten seconds.
    pub(crate) async fn until(&self, token: &str, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..1_000 {
            last = self.send(call("GET", path).token(token)).await.expect(200);
            if so(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never so: {last}");
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A tar.gz that holds this manifest alone.
pub(crate) fn bundle_of(manifest: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "flare.toml", manifest.as_bytes()).expect("an entry");
    let plain = archive.into_inner().expect("an archive");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).expect("in memory");
    packed.finish().expect("in memory")
}
