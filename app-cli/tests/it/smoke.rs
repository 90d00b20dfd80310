//! `flare smoke` against a real server: what it says, and what it leaves.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::flare::{Answer, EXE, PATIENCE, Place, Server, have, run, wait};

/// A user who is signed in at a server.
fn signed_in() -> (Place, Server) {
    let place = Place::new();
    std::fs::create_dir(place.path("tmp")).expect("made");
    let server = place.server();
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &server.url]).ok();
    (place, server)
}

fn smoke(place: &Place, words: &[&str]) -> Answer {
    run(place.command(EXE).args(["--json", "smoke"]).args(words).env("TMPDIR", place.path("tmp")))
}

fn steps(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn states(out: &str) -> Vec<(String, String)> {
    let text = |step: &Value, name: &str| step[name].as_str().expect("text").to_owned();
    steps(out).iter().map(|step| (text(step, "step"), text(step, "state"))).collect()
}

/// Nothing of it is there any more: no session, no machine, no template that is not put away, no build under way, no
/// folder on this machine.
#[track_caller]
fn nothing_is_left(place: &Place, server: &Server) {
    let items = |words: &[&str]| {
        let list = place.flare(words.iter().chain(&["list", "--json"])).ok().json();
        list["items"].as_array().cloned().expect("items")
    };
    let end = Instant::now() + PATIENCE;
    let machines = || std::fs::read_dir(server.data.join("machines")).expect("a folder").count();
    let over =
        |build: &Value| ["succeeded", "failed", "cancelled"].iter().any(|state| build["state"] == *state);
    while machines() > 0 || !items(&["build"]).iter().all(over) {
        assert!(Instant::now() < end, "machines or builds stay: {:?}", items(&["build"]));
    }
    assert_eq!(items(&["session"]), Vec::<Value>::new());
    for template in items(&["template"]) {
        assert!(!template["archived_at"].is_null(), "{template}");
    }
    assert_eq!(std::fs::read_dir(place.path("tmp")).expect("a folder").count(), 0);
}

#[test]
fn every_step_is_taken_and_nothing_is_left() {
    if !have("ssh") || !have("python3") {
        return;
    }
    let (place, server) = signed_in();
    let answer = smoke(&place, &[]).ok();
    let names: Vec<&str> = [
        "server", "sign-in", "template", "upload", "build", "promote", "session", "exec", "ssh", "terminal",
        "files", "preview", "stop", "start", "kept", "delete", "archive",
    ]
    .to_vec();
    let expected: Vec<_> = names.iter().map(|name| ((*name).to_owned(), "ok".to_owned())).collect();
    assert_eq!(states(&answer.out), expected, "{answer:?}");
    assert!(steps(&answer.out).iter().all(|step| step["ms"].is_u64()), "{answer:?}");
    assert!(answer.out.contains("e@example.com"), "it is the stored sign-in: {answer:?}");
    nothing_is_left(&place, &server);

    // Where nobody is signed in it makes an account, and leaves no credentials of it.
    let mut command = place.command(EXE);
    command.env("FLARE_CONFIG_DIR", place.path("other")).env("TMPDIR", place.path("tmp"));
    let told = run(command.args(["smoke", "--url", &server.url, "--email", "smoke@example.com"])).ok();
    assert_eq!(told.out.lines().filter(|line| line.starts_with("ok ")).count(), names.len(), "{told:?}");
    assert!(told.out.contains("smoke@example.com"), "{told:?}");
    assert!(!place.path("other/credentials.json").exists());
    nothing_is_left(&place, &server);
}

#[test]
fn the_step_that_fails_is_told_with_its_reason_and_cleaned_up_after() {
    let (place, server) = signed_in();
    // Machines cannot be made any more: their files have no place.
    let layers = server.data.join("layers");
    std::fs::remove_dir_all(&layers).expect("removed");
    std::fs::write(&layers, "").expect("written");
    let answer = smoke(&place, &[]).fails(10, "build: the build failed");
    let told = steps(&answer.out);
    let failed = told.iter().find(|step| step["state"] == "failed").expect("a failed step");
    assert_eq!(failed["step"], "build", "{answer:?}");
    for name in ["message", "hint"] {
        assert!(failed["error"][name].as_str().is_some_and(|text| !text.is_empty()), "{failed}");
    }
    assert!(failed["line"].as_str().is_some_and(|line| line.starts_with("flare build log bld_")), "{failed}");
    assert_eq!(states(&answer.out).last(), Some(&("clean-up".to_owned(), "ok".to_owned())), "{answer:?}");
    nothing_is_left(&place, &server);

    // A step that takes too long has failed.
    let late = smoke(&place, &["--timeout", "1ms"]).fails(8, "it took longer than");
    assert!(states(&late.out).iter().any(|(_, state)| state == "failed"), "{late:?}");

    // A server that says itself that it cannot work is asked for nothing more.
    let machines = server.data.join("machines");
    std::fs::remove_dir_all(&machines).expect("removed");
    std::fs::write(&machines, "").expect("written");
    let answer = smoke(&place, &[]).fails(7, "server: the server is not ready: machines");
    assert_eq!(states(&answer.out), [("server".to_owned(), "failed".to_owned())], "{answer:?}");
    std::fs::remove_file(&machines).expect("removed");
    std::fs::create_dir(&machines).expect("made");

    let url = server.url.clone();
    drop(server);
    smoke(&place, &["--url", &url]).fails(7, "flare dev");
    assert_eq!(std::fs::read_dir(place.path("tmp")).expect("a folder").count(), 0);
}

/// Starts it and interrupts it as soon as it has told of a step.
fn interrupted(place: &Place, step: &str) -> Answer {
    let mut command = place.command(EXE);
    command.args(["--json", "smoke"]).env("TMPDIR", place.path("tmp"));
    let mut child: Child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("runs");
    let mut out = String::new();
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    while reader.read_line(&mut out).expect("a line") > 0 {
        if steps(&out).last().is_some_and(|told| told["step"] == step) {
            kill_process(Pid::from_child(&child), Signal::INT).expect("sent");
            break;
        }
    }
    while reader.read_line(&mut out).expect("a line") > 0 {}
    let status = wait(&mut child).expect("it ends");
    Answer { code: status.code().unwrap_or(-1), out, err: String::new() }
}

#[test]
fn ctrl_c_leaves_nothing() {
    let (place, server) = signed_in();
    for step in ["server", "sign-in", "template", "upload", "promote", "exec", "stop"] {
        let answer = interrupted(&place, step);
        assert_eq!(answer.code, 130, "after {step}: {answer:?}");
        assert!(!answer.out.contains("\"failed\""), "after {step}: {answer:?}");
        assert!(!answer.out.contains("\"archive\""), "it stopped after {step}: {answer:?}");
        nothing_is_left(&place, &server);
    }
}
