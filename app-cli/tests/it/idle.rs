//! Sessions that nobody uses go to sleep by themselves.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::flare::{Answer, EXE, PATIENCE, Place, run, session, wait};

/// A running session that sleeps after so long.
fn idle(place: &Place, sleep_after: &str) -> crate::flare::Server {
    let server = place.server();
    let folder = place.path("template");
    std::fs::create_dir(&folder).expect("made");
    let manifest = format!("sleep_after = \"{sleep_after}\"\n");
    std::fs::write(folder.join("flare.toml"), manifest).expect("written");
    session(place, &server, Some(&folder));
    server
}

/// An open connection whose program reads what is typed.
fn connection(place: &Place) -> Child {
    let mut cat = place
        .command(EXE)
        .args(["ssh", "s", "--", "cat > typed"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let input = cat.stdin.as_mut().expect("a pipe");
    input.write_all(b"x").expect("typed");
    // It is through once the byte has arrived.
    let arrived = place.flare(["ssh", "s", "--", "until [ -s typed ]; do sleep 0.1; done"]);
    arrived.ok();
    cat
}

/// Looks until it sleeps.
fn asleep(show: impl Fn() -> Answer) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let document = show().ok().json();
        if document["state"] == "sleeping" {
            return document;
        }
        assert!(Instant::now() < end, "it never sleeps: {document}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

#[test]
fn an_open_connection_in_which_nobody_types_does_not_keep_it_awake() {
    let place = Place::new();
    let server = idle(&place, "10s");
    place.flare(["session", "exec", "s", "--", "sh", "-c", "echo kept > a"]).ok();
    let mut connection = connection(&place);
    let shown = place.flare(["session", "show", "s", "--json"]).ok().json();
    assert_eq!(shown["idle"]["sleep_after"], "10s", "{shown}");
    assert!(shown["idle"]["sleeps_at"].is_string(), "{shown}");
    let document = asleep(|| place.flare(["session", "show", "s", "--json"]));
    assert_eq!(document["stopped_by"], "idle", "{document}");
    assert!(document["failure"].is_null() && document["snapshot"].is_string(), "{document}");
    let card = place.flare(["session", "show", "s"]).ok().out;
    assert!(card.contains("idle"), "{card}");
    // The connection goes with the machine; whoever comes back wakes it and finds the files.
    connection.kill().expect("ended");
    wait(&mut connection);
    assert_eq!(place.flare(["ssh", "s", "--", "cat a typed"]).ok().out, "kept\nx");
    drop(server);
}

#[test]
fn typing_keeps_it_awake_and_so_does_a_marked_job() {
    let place = Place::new();
    let _server = idle(&place, "15s");
    let mut connection = connection(&place);
    for _ in 0..30 {
        let input = connection.stdin.as_mut().expect("a pipe");
        input.write_all(b"y").expect("typed");
        let next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < next {
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
    let state = || place.flare(["session", "show", "s", "--json"]).ok().json();
    let shown = state();
    assert_eq!(
        (shown["state"].as_str(), shown["idle"]["reason"].as_str()),
        (Some("running"), Some("ssh_input"))
    );
    // The connection ends; a job that is marked goes on without anybody.
    drop(connection.stdin.take());
    wait(&mut connection);
    let job = "(flock /run/user/1000/flare/awake/job sleep 40 </dev/null >/dev/null 2>&1 &)";
    place.flare(["ssh", "s", "--", job]).ok();
    let begun = Instant::now();
    let shown = state();
    assert_eq!(shown["idle"]["busy"][0]["reason"], "job", "{shown}");
    let document = asleep(|| place.flare(["session", "show", "s", "--json"]));
    assert_eq!(document["stopped_by"], "idle");
    assert!(begun.elapsed() >= Duration::from_secs(39), "it slept while the job ran");
}

#[test]
fn it_sleeps_below_a_server_that_has_begun_anew() {
    let place = Place::new();
    let server = idle(&place, "10s");
    let token = place.flare(["auth", "token"]).ok().out.trim().to_owned();
    server.signal(Signal::KILL);
    assert_eq!(server.ended(), None);
    let server = place.server();
    let document = asleep(|| {
        let mut show = place.command(EXE);
        show.args(["session", "show", "s", "--json"]);
        run(show.env("FLARE_URL", &server.url).env("FLARE_TOKEN", &token))
    });
    assert_eq!(document["stopped_by"], "idle", "{document}");
}
