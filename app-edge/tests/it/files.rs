//! Files of a session through the API: what is passed on to the agent, and what comes back.

use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::Refusal;
use burstflare_ports::wire::files::{FileInfo, FileKind, FolderPage, KIND_HEADER};
use bytes::Bytes;
use serde_json::json;

use crate::support::{World, call};

/// An agent with one file of ten bytes, one folder, and refusals by name.
pub(crate) fn answer(head: &Parts) -> Response<Body> {
    let query = head.uri.query().unwrap_or_default();
    assert!(!query.contains(".."), "{query}");
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refuse = |status: u16, code: &str| {
        let refusal = Refusal { code: code.to_owned(), message: "No.".to_owned() };
        let mut response = Response::new(Body::Full(serde_json::to_vec(&refusal).expect("JSON").into()));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        response
    };
    for (path, status, code) in [
        ("missing", 404, "no_such_file"),
        ("out", 403, "outside"),
        ("old", 404, "not_found"),
        ("strange", 418, "teapot"),
        ("full", 507, "full"),
    ] {
        if query.starts_with(&format!("path={path}")) {
            return refuse(status, code);
        }
    }
    if !matches!(header("if-match"), "" | "\"e\"") {
        return refuse(412, "changed");
    }
    let info = |path: &str, kind| FileInfo {
        path: path.to_owned(),
        kind,
        size: 10,
        mode: 0o640,
        mtime_ns: 1_700_000_000_123_456_789,
        etag: Some("\"e\"".to_owned()),
        link: None,
    };
    let json = |value: serde_json::Value, kind: &str| {
        let mut response = Response::new(Body::Full(value.to_string().into()));
        response.headers_mut().insert(KIND_HEADER, kind.parse().expect("a value"));
        response
    };
    match (head.method.as_str(), query) {
        ("DELETE", _) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        ("GET", query) if query.starts_with("path=d") => {
            let after = query.contains("after=n1");
            let page = FolderPage {
                folder: info("/workspace/d", FileKind::Folder),
                items: vec![info(if after { "/workspace/d/n2" } else { "/workspace/d/n1" }, FileKind::File)],
                next: (!after).then(|| "n1".to_owned()),
            };
            json(serde_json::to_value(page).expect("JSON"), "folder")
        }
        ("GET", query) if !query.contains("stat=true") => {
            let mut response = Response::new(Body::Full(Bytes::from_static(b"0123456789")));
            let headers = response.headers_mut();
            headers.insert(KIND_HEADER, "file".parse().expect("a value"));
            headers.insert("etag", "\"e\"".parse().expect("a value"));
            headers.insert("flare-secret", "inside".parse().expect("a value"));
            headers.insert("content-type", "text/html".parse().expect("a value"));
            headers.insert("flare-file-mtime", header("range").parse().expect("a value"));
            response
        }
        _ => json(serde_json::to_value(info("/workspace/a", FileKind::File)).expect("JSON"), "file"),
    }
}

async fn world() -> (World, String) {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let template = world.template(&token, "t").await;
    world.session(&token, "s", &template, "private").await;
    (world, token)
}

const FILES: &str = "/api/v1/sessions/s/files";

#[tokio::test]
async fn bytes_come_as_bytes_and_documents_as_documents() {
    let (world, token) = world().await;
    let get = |path: &str| call("GET", &format!("{FILES}?path={path}")).token(&token);
    let answer = world.send(get("a%25FF").header("range", "bytes=0-3")).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "0123456789"));
    assert_eq!(answer.header("content-type"), "application/octet-stream", "never a page of our origin");
    assert_eq!(answer.header("content-disposition"), "attachment");
    assert_eq!((answer.header("etag"), answer.header("flare-file-kind")), ("\"e\"", "file"));
    assert_eq!(answer.header("flare-file-mtime"), "bytes=0-3", "the range is the agent's to answer");
    assert_eq!(answer.header("flare-secret"), "", "nothing else of the agent's gets out");
    let told = world.send(get("a&stat=true")).await.expect(200);
    assert_eq!((&told["name"], &told["mode"], &told["kind"]), (&json!("a"), &json!("640"), &json!("file")));
    assert_eq!(told["modified_at"], "2023-11-14T22:13:20.123Z");
    let first = world.send(get("d")).await;
    assert_eq!(first.header("flare-file-kind"), "folder");
    let first = first.expect(200);
    assert_eq!(first["items"][0]["name"], "n1");
    let cursor = first["next_cursor"].as_str().expect("more");
    let next = world.send(get(&format!("d&cursor={cursor}"))).await.expect(200);
    assert_eq!((&next["items"][0]["name"], &next["next_cursor"]), (&json!("n2"), &json!(null)));
    let foreign = world.send(get(&format!("dd&cursor={cursor}"))).await;
    assert_eq!((foreign.status.as_u16(), foreign.json()["field"].clone()), (400, json!("cursor")));
    for bad in ["a&stat=yes", "a&limit=0", "a&limit=201", "a&path=b", "a&other=1", ""] {
        assert_eq!(world.send(get(bad)).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn refusals_of_the_agent_are_ours() {
    let (world, token) = world().await;
    for (path, status, code) in [
        ("missing", 404, "no_such_file"),
        ("out", 403, "outside"),
        ("old", 501, "not_supported"),
        ("strange", 503, "agent_refused"),
        ("full", 507, "full"),
    ] {
        let answer = world.send(call("GET", &format!("{FILES}?path={path}")).token(&token)).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, code));
    }
    let put = |tag: &str| {
        call("PUT", &format!("{FILES}?path=a"))
            .token(&token)
            .header("if-match", tag)
            .body("application/octet-stream", "x")
    };
    assert_eq!(world.send(put("\"e\"")).await.header("etag"), "\"e\"");
    let lost = world.send(put("\"f\"")).await;
    assert_eq!((lost.status.as_u16(), lost.problem().as_str()), (412, "changed"));
}

#[tokio::test]
async fn only_bytes_are_written_and_every_write_is_audited() {
    let (world, token) = world().await;
    let put = |path: &str| call("PUT", &format!("{FILES}{path}")).token(&token);
    assert_eq!(world.status(put("?path=a").body("text/html", "x")).await, 415);
    for bad in ["", "?path=", "?path=a&mode=888", "?path=a&mode=4755", "?path=a&mtime_ns=x", "?path=a&x=1"] {
        let answer = world.send(put(bad).body("application/octet-stream", "x")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let written = put("?path=a&mode=600&mtime_ns=5&parents=true").body("application/octet-stream", "x");
    world.send(written).await.expect(200);
    let change = json!({ "action": "rename", "path": "a", "to": "b" });
    world.send(call("POST", FILES).token(&token).json(&change)).await.expect(200);
    world.send(call("DELETE", &format!("{FILES}?path=b")).token(&token)).await.expect(204);
    let unknown = json!({ "action": "chown", "path": "a" });
    assert_eq!(world.status(call("POST", FILES).token(&token).json(&unknown)).await, 400);
    let audit = world.send(call("GET", "/api/v1/audit?limit=3").token(&token)).await.expect(200);
    let actions: Vec<_> =
        audit["items"].as_array().expect("lines").iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["session.file.delete", "session.file.change", "session.file.write"]);
}
