//! The files API, search and metrics with a real machine below.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::flare::{Place, session};

struct Api {
    authority: String,
    token: String,
}

/// Status, head and body.
type Answer = (u16, String, Vec<u8>);

impl Api {
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.authority).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let head = format!(
            "{method} /api/v1/sessions/s/{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             connection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            self.authority,
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("read");
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, head, all[end + 4..].to_vec())
    }

    fn put(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let headers = format!("content-type: application/octet-stream\r\n{headers}");
        self.send("PUT", &format!("files?path={path}"), &headers, body)
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        self.send("GET", &format!("files?path={path}"), headers, b"")
    }
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.2).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn files_are_read_and_written_through_the_api() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    let token = place.flare(["auth", "token"]).ok().out.trim().to_owned();
    let api = Api { authority: server.url.trim_start_matches("http://").to_owned(), token };
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let written = api.put("dir/every%25FF&parents=true&mode=640", "", &bytes);
    assert_eq!(written.0, 200, "{written:?}");
    let etag = json(&written)["etag"].as_str().expect("a tag").to_owned();
    let read = api.get("/workspace/dir/every%25FF", "");
    assert!(read.2 == bytes && read.1.contains(&format!("etag: {etag}")), "{}", read.1);
    assert!(
        read.1.contains("content-type: application/octet-stream") && read.1.contains("nosniff"),
        "{}",
        read.1
    );
    let part = api.get("dir/every%25FF", "range: bytes=256-259\r\n");
    assert_eq!((part.0, &part.2[..]), (206, &[0, 1, 2, 3][..]));
    assert_eq!(api.get("dir/every%25FF", &format!("if-none-match: {etag}\r\n")).0, 304);
    assert_eq!(api.get("dir/every%25FF", "range: bytes=9999999-\r\n").0, 416);
    // A process of the session changes it: the writer with the old tag loses nothing of it.
    place
        .flare(["exec", "s", "-n", "--", "sh", "-c", "for f in dir/every*; do echo changed >>$f; done"])
        .ok();
    let lost = api.put("dir/every%25FF", &format!("if-match: {etag}\r\n"), b"mine");
    assert_eq!((lost.0, json(&lost)["code"].as_str()), (412, Some("changed")));
    assert_eq!(api.put("dir/every%25FF", "if-none-match: *\r\n", b"mine").0, 412);
    let listed = json(&api.get("dir", ""));
    assert_eq!(listed["items"][0]["path"], "/workspace/dir/every%FF");
    let found = json(&api.send("GET", "search?text=changed&name=every*", "", b""));
    assert_eq!((&found["items"][0]["path"], &found["cut"]), (&listed["items"][0]["path"], &Value::Null));
    assert_eq!(api.send("DELETE", "files?path=dir", "", b"").0, 409);
    assert_eq!(api.send("DELETE", "files?path=dir&recursive=true", "", b"").0, 204);
    assert_eq!(api.get("dir", "").0, 404);
}

#[test]
fn what_a_machine_uses_is_told() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    place
        .flare(["exec", "s", "-n", "--", "sh", "-c", "head -c 3000000 /dev/zero >file; (sleep 600 &) ; true"])
        .ok();
    let told = place.flare(["session", "metrics", "s", "--json"]).ok().json();
    assert!(told["disk"]["used"].as_u64().is_some_and(|bytes| bytes >= 3_000_000), "{told}");
    assert!(told["processes"]["used"].as_u64().is_some_and(|count| count >= 1), "{told}");
    assert!(told["memory"]["used"].as_u64().is_some_and(|bytes| bytes > 0), "{told}");
    assert_eq!((&told["disk_complete"], &told["active_by"]), (&Value::Bool(true), &Value::from("exec")));
    assert!(
        told["memory"]["limit"].as_u64().is_some() && told["cpu_millicores"]["limit"].as_u64().is_some(),
        "{told}"
    );
    let shown = place.flare(["session", "top", "s"]).ok().out;
    assert!(shown.contains("memory") && shown.contains("SHARE"), "{shown}");
    place.flare(["session", "stop", "s"]).ok();
    place.flare(["session", "metrics", "s"]).fails(5, "hint:");
}
