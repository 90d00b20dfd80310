//! What needs no server: help, usage, exit codes, dead servers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Instant;

use crate::flare::{EXE, Place, run};

#[test]
fn the_version_is_there_at_once() {
    let place = Place::new();
    let mut best = std::time::Duration::MAX;
    for _ in 0..10 {
        let begin = Instant::now();
        let answer = place.flare(["--version"]).ok();
        best = best.min(begin.elapsed());
        assert_eq!(answer.out, concat!("flare ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    // The aim is 10 ms for an optimised build; this one is not, and the polling of the test is in it.
    assert!(best.as_millis() < 50, "{best:?}");
}

#[test]
fn help_and_man_and_completions_go_to_standard_output() {
    let place = Place::new();
    assert!(place.flare(["--help"]).ok().out.contains("flare [OPTIONS] <COMMAND>"));
    assert!(place.flare(["man"]).ok().out.contains(".TH flare 1"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.flare(["completions", shell]).ok().out.contains("flare"), "{shell}");
    }
    place.flare(["man", "--dir", "pages"]).ok();
    assert!(place.path("work/pages/flare-session-up.1").is_file());
}

#[test]
fn wrong_words_are_usage() {
    let place = Place::new();
    place.flare(["sesion"]).fails(2, "unrecognized subcommand");
    place.flare(["template", "upload", "t"]).fails(2, "--version");
    place.flare(["session", "list", "--limit", "0"]).fails(2, "--limit");
    place.flare(["session", "list", "--limit", "x"]).fails(2, "--limit");
    place.flare(["auth", "whoami", "--url", "example.com"]).fails(2, "http://");
    place.flare(["auth", "whoami", "--url", "http://u:p@example.com"]).fails(2, "credentials");
}

#[test]
fn what_is_not_there_yet_says_so() {
    let place = Place::new();
    for words in [&["usage"][..], &["dashboard"], &["export"], &["import", "f"], &["report"], &["reconcile"]]
    {
        let answer = place.flare(words).fails(9, "is not supported yet");
        assert!(answer.err.contains("hint:"), "{words:?}");
    }
}

#[test]
fn without_a_sign_in_the_next_step_is_named() {
    let place = Place::new();
    place.flare(["session", "list"]).fails(4, "flare auth register");
    place.flare(["auth", "whoami", "--url", "http://127.0.0.1:1"]).fails(4, "http://127.0.0.1:1");
    assert!(!place.path("config").exists(), "looking leaves nothing behind");
}

#[test]
fn a_dead_server_has_its_own_code() {
    let place = Place::new();
    let answer = place.flare(["auth", "register", "--email", "e@example.com", "--url", "http://127.0.0.1:1"]);
    let answer = answer.fails(7, "cannot reach the server at http://127.0.0.1:1");
    assert!(answer.err.contains("flare dev"), "{answer:?}");
    let output = run(place
        .command(EXE)
        .args(["session", "list"])
        .env("FLARE_URL", "http://127.0.0.1:1")
        .env("FLARE_TOKEN", "x"));
    output.fails(7, "cannot reach");
}

#[test]
fn a_token_of_the_environment_needs_its_server() {
    let place = Place::new();
    let answer = run(place.command(EXE).args(["session", "list"]).env("FLARE_TOKEN", "x"));
    answer.fails(2, "FLARE_URL");
}

#[test]
fn something_else_than_our_server_is_told_apart() {
    let place = Place::new();
    for (answer, code, about) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 1, "is no JSON"),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://evil.example/\r\ncontent-length: 0\r\n\r\n",
            7,
            "not followed",
        ),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 3\r\n\r\n<p>", 1, "500"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("answered");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let command = &mut place.command(EXE);
        let command = command.args(["session", "list"]).env("FLARE_URL", &url).env("FLARE_TOKEN", "tok");
        run(command).fails(code, about);
        assert!(server.join().expect("asked").contains("authorization: Bearer tok"));
    }
}

#[test]
fn colours_are_for_terminals_alone() {
    let place = Place::new();
    let plain = place.flare(["session", "list"]);
    assert!(!plain.err.contains('\x1b'), "{plain:?}");
    let terminal = run(place
        .command("script")
        .args(["-qec", &format!("{EXE} session list"), "/dev/null"])
        .env("TERM", "xterm"));
    assert!(terminal.out.contains("\x1b["), "{terminal:?}");
    let no_color = run(place
        .command("script")
        .args(["-qec", &format!("{EXE} session list"), "/dev/null"])
        .env("TERM", "xterm")
        .env("NO_COLOR", "1"));
    assert!(!no_color.out.contains("\x1b[1"), "{no_color:?}");
}

#[test]
fn a_folder_without_manifest_is_told_what_to_do() {
    let place = Place::new();
    fs::create_dir(place.path("work/d")).expect("made");
    let url = ["--url", "http://127.0.0.1:1"];
    place
        .flare(["template", "upload", "t", "--version", "1", "--dir", "d", url[0], url[1]])
        .fails(2, "flare template init");
    place
        .flare(["template", "upload", "t", "--version", "1", "--dir", "no", url[0], url[1]])
        .fails(2, "is not a folder");
    fs::create_dir(place.path("work/d/.devcontainer")).expect("made");
    fs::write(place.path("work/d/.devcontainer/devcontainer.json"), "{}").expect("written");
    place
        .flare(["template", "upload", "t", "--version", "1", "--dir", "d", url[0], url[1]])
        .fails(2, "devcontainer.json is not supported yet");
    place.flare(["template", "init", "d"]).ok();
    assert!(place.path("work/d/flare.toml").is_file());
    fs::write(place.path("work/d/flare.toml"), "base = \"default\"\nsetupp = []\n").expect("written");
    let answer = place.flare(["template", "upload", "t", "--version", "1", "--dir", "d", url[0], url[1]]);
    let answer = answer.fails(2, "setupp");
    assert!(answer.err.contains('2'), "the line is named: {answer:?}");
}
