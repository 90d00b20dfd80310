//! Credentials: by origin, private, refreshed once.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::flare::{EXE, Place};

/// A server of one page that takes each refresh token once, as the real one.
struct Fake {
    url: String,
    /// Path and bearer of every request.
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

fn fake() -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, spent) = (Arc::clone(&seen), Arc::new(Mutex::new(Vec::<String>::new())));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (log, spent) = (Arc::clone(&log), Arc::clone(&spent));
            std::thread::spawn(move || serve(stream, &log, &spent));
        }
    });
    Fake { url, seen }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<(String, String)>>, spent: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut stream = stream;
    loop {
        let (mut head, mut length, mut bearer) = (String::new(), 0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if lower.starts_with("authorization:") {
                bearer = line.split_ascii_whitespace().last().unwrap_or_default().to_owned();
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        log.lock().expect("a lock").push((path.clone(), bearer.clone()));
        let (status, answer) = answer(&path, &bearer, &body, spent);
        let answer = answer.to_string();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(path: &str, bearer: &str, body: &[u8], spent: &Mutex<Vec<String>>) -> (&'static str, Value) {
    if path.ends_with("/auth/refresh") {
        let token = serde_json::from_slice::<Value>(body).expect("JSON")["refresh_token"].to_string();
        let mut spent = spent.lock().expect("a lock");
        if spent.contains(&token) {
            return ("401 No", json!({ "code": "refresh_reused", "detail": "That sign-in is over." }));
        }
        spent.push(token);
        let number = spent.len();
        return ("200 OK", tokens(&format!("new{number}"), "2999-01-01T00:00:00Z"));
    }
    match bearer.starts_with("new") {
        true => (
            "200 OK",
            json!({ "user": { "email": "e@example.com" }, "workspace": { "name": "w" }, "role": "owner" }),
        ),
        false => ("401 No", json!({ "code": "unauthenticated", "detail": "No." })),
    }
}

fn tokens(name: &str, until: &str) -> Value {
    json!({
        "access_token": name, "access_expires_at": until,
        "refresh_token": format!("r-{name}"), "refresh_expires_at": "2999-01-01T00:00:00Z",
    })
}

fn keep(place: &Place, entries: &[(&str, Value)]) {
    let origins: serde_json::Map<String, Value> =
        entries.iter().map(|(url, tokens)| ((*url).to_owned(), tokens.clone())).collect();
    fs::create_dir_all(place.path("config")).expect("made");
    let document = json!({ "current": entries[0].0, "origins": origins });
    fs::write(place.path("config/credentials.json"), document.to_string()).expect("written");
}

#[test]
fn two_processes_that_refresh_at_once_refresh_once() {
    let place = Place::new();
    let server = fake();
    keep(&place, &[(&server.url, tokens("old", "2000-01-01T00:00:00Z"))]);
    let running: Vec<_> = (0..8)
        .map(|_| {
            let mut command = place.command(EXE);
            std::thread::spawn(move || crate::flare::run(command.args(["auth", "whoami", "--json"])))
        })
        .collect();
    for one in running {
        one.join().expect("ran").ok();
    }
    let refreshes =
        server.seen.lock().expect("a lock").iter().filter(|(path, _)| path.ends_with("refresh")).count();
    assert_eq!(refreshes, 1);
    let mode = fs::metadata(place.path("config/credentials.json")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_token_that_was_refused_is_refreshed_once() {
    let place = Place::new();
    let server = fake();
    keep(&place, &[(&server.url, tokens("revoked", "2999-01-01T00:00:00Z"))]);
    place.flare(["auth", "whoami"]).ok();
    let token = place.flare(["auth", "token"]).ok();
    assert_eq!(token.out, "new1\n");
}

#[test]
fn a_sign_in_that_is_over_says_how_to_get_back_in() {
    let place = Place::new();
    let server = fake();
    let over = json!({
        "access_token": "old", "access_expires_at": "2000-01-01T00:00:00Z",
        "refresh_token": "x", "refresh_expires_at": "2999-01-01T00:00:00Z",
    });
    keep(&place, &[(&server.url, over.clone())]);
    place.flare(["auth", "whoami"]).ok();
    keep(&place, &[(&server.url, over)]);
    place.flare(["auth", "whoami"]).fails(4, "flare auth login");
}

#[test]
fn nothing_is_sent_to_another_origin() {
    let place = Place::new();
    let (ours, theirs) = (fake(), fake());
    keep(&place, &[(&ours.url, tokens("new", "2999-01-01T00:00:00Z"))]);
    place.flare(["auth", "whoami"]).ok();
    place.flare(["auth", "whoami", "--url", &theirs.url]).fails(4, "not signed in");
    // A token of the environment belongs to FLARE_URL, whatever --url says.
    let mut command = place.command(EXE);
    command
        .args(["auth", "whoami", "--url", &theirs.url])
        .env("FLARE_URL", &ours.url)
        .env("FLARE_TOKEN", "new-secret");
    crate::flare::run(&mut command).fails(4, "not signed in");
    assert!(theirs.seen.lock().expect("a lock").is_empty());
}

#[test]
fn a_damaged_file_is_said_to_be_damaged() {
    let place = Place::new();
    fs::create_dir_all(place.path("config")).expect("made");
    fs::write(place.path("config/credentials.json"), "{").expect("written");
    place.flare(["auth", "whoami"]).fails(4, "is damaged");
}
