//! Sessions over time, and the server's own end.

use rustix::process::Signal;

use crate::flare::{Place, session};

fn exec(place: &Place, line: &str) -> String {
    place.flare(["session", "exec", "s", "--", "sh", "-c", line]).ok().out
}

#[test]
fn files_are_there_after_stop_and_start_also_from_the_snapshot() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    exec(&place, "echo kept > a; mkdir -p ~/deep; echo home > ~/deep/b; chmod 711 a");
    let stopped = place.flare(["session", "stop", "s", "--json"]).ok().json();
    assert_eq!(stopped["state"], "sleeping");
    place.flare(["session", "exec", "s", "--", "true"]).fails(5, "hint:");
    place.flare(["session", "start", "s"]).ok();
    assert_eq!(exec(&place, "cat a ~/deep/b; stat -c %a a"), "kept\nhome\n711\n");
    place.flare(["session", "stop", "s"]).ok();
    // The disk is lost; the snapshot is not.
    let disk = find_disk(&server.data);
    std::fs::remove_dir_all(&disk).expect("removed");
    place.flare(["session", "start", "s"]).ok();
    assert_eq!(exec(&place, "cat a ~/deep/b; stat -c %a a"), "kept\nhome\n711\n");
    place.flare(["session", "restart", "s"]).ok();
    assert_eq!(exec(&place, "cat a"), "kept\n");
    place.flare(["session", "delete", "s"]).ok();
    place.flare(["session", "show", "s"]).fails(3, "no such session");
    let up = place.flare(["session", "up", "s", "--template", "t"]).ok();
    assert!(up.out.contains("runs"));
    assert_eq!(exec(&place, "ls"), "README.md\nbuilt.txt\nflare.toml\nhello.sh\n", "a new session is new");
}

/// The folder of the one machine.
fn find_disk(data: &std::path::Path) -> std::path::PathBuf {
    let machines = std::fs::read_dir(data.join("machines")).expect("a folder");
    let owner =
        machines.filter_map(Result::ok).find(|entry| entry.file_name().to_string_lossy().starts_with("ses_"));
    owner.expect("a machine").path()
}

#[test]
fn start_during_a_stop_waits_its_turn() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    for _ in 0..3 {
        let stop = place.flare(["session", "stop", "s", "--no-wait", "--json"]).ok().json();
        assert!(stop["state"] == "stopping" || stop["state"] == "sleeping", "{stop}");
        let start = place.flare(["session", "start", "s", "--json"]).ok().json();
        assert_eq!(start["state"], "running");
    }
}

#[test]
fn an_orderly_end_puts_sessions_to_sleep_and_a_killed_server_ends_none() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    exec(&place, "echo before > a; nohup sleep 1000 >/dev/null 2>&1 & echo $! > pid");
    // Killed: the machine goes on, and the next server finds it.
    server.signal(Signal::KILL);
    assert_eq!(server.ended(), None);
    let server = place.server();
    place
        .flare(["auth", "login", "--email", "e@example.com", "--recovery-code", "x", "--url", &server.url])
        .fails(4, "hint");
    let url = ["--url", &server.url];
    // The port is another one, so the sign-in is the old origin's: hand its token over.
    let token = token_of(&place);
    let as_before = |words: &[&str]| {
        let mut command = place.command(crate::flare::EXE);
        command.args(words).env("FLARE_URL", url[1]).env("FLARE_TOKEN", &token);
        crate::flare::run(&mut command)
    };
    let alive = as_before(&["session", "exec", "s", "--", "sh", "-c", "kill -0 $(cat pid) && cat a"]).ok();
    assert_eq!(alive.out, "before\n");
    // Asked to end: sessions sleep.
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));
    let server = place.server();
    let mut command = place.command(crate::flare::EXE);
    command.args(["session", "show", "s", "--json"]).env("FLARE_URL", &server.url).env("FLARE_TOKEN", &token);
    assert_eq!(crate::flare::run(&mut command).ok().json()["state"], "sleeping");
    let doctor =
        place.flare(["doctor", "--json", "--data-dir", &server.data.display().to_string()]).ok().json();
    assert_eq!(doctor["ok"], true, "{doctor}");
}

fn token_of(place: &Place) -> String {
    let text = std::fs::read_to_string(place.path("config/credentials.json")).expect("text");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let origins = document["origins"].as_object().expect("origins");
    let entry = origins.values().next().expect("an entry");
    entry["access_token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_taken_port_and_a_taken_folder_are_told_apart() {
    let place = Place::new();
    let server = place.server();
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    let other = place.path("other").display().to_string();
    place.flare(["dev", "--port", &port, "--data-dir", &other]).fails(5, "is in use");
    let data = server.data.display().to_string();
    place.flare(["dev", "--port", "0", "--data-dir", &data]).fails(5, "is in use by process");
}

#[test]
fn serve_lets_in_the_first_operator_once() {
    let place = Place::new();
    let mut child = place
        .command(crate::flare::EXE)
        .args([
            "--json",
            "serve",
            "--origin",
            "http://flare.example.test",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(place.path("data"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    let document: serde_json::Value = serde_json::from_str(&line).expect("one document");
    let code = document["bootstrap_code"].as_str().expect("a code").to_owned();
    let url = format!("http://{}", document["listen"].as_str().expect("an address"));
    place.flare(["auth", "register", "--email", "a@example.com", "--url", &url]).fails(4, "--code");
    place
        .flare(["auth", "register", "--email", "a@example.com", "--url", &url, "--code", "nonsense"])
        .fails(4, "hint");
    place.flare(["auth", "register", "--email", "a@example.com", "--url", &url, "--code", &code]).ok();
    place
        .flare(["auth", "register", "--email", "b@example.com", "--url", &url, "--code", &code])
        .fails(4, "hint");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).expect("sent");
    assert_eq!(crate::flare::wait(&mut child).expect("ends").code(), Some(0));
}

#[test]
fn bad_input_has_its_code_and_no_effect() {
    let place = Place::new();
    let server = place.server();
    let url = server.url.clone();
    place.flare(["auth", "register", "--email", "not an address", "--url", &url]).fails(2, "hint");
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &url]).ok();
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &url]).fails(5, "hint");
    let long = "a".repeat(10_000);
    place.flare(["template", "create", &long]).fails(2, "hint");
    place.flare(["template", "create", "Not A Slug"]).fails(2, "hint");
    place.flare(["template", "show", "../../etc"]).fails(3, "hint");
    place.flare(["session", "up", "s", "--template", "none"]).fails(3, "hint");
    place.flare(["session", "up", "s"]).fails(3, "--template");
    place.flare(["template", "create", "t"]).ok();
    place.flare(["template", "create", "t"]).fails(5, "hint");
    place.flare(["session", "up", "s", "--template", "t"]).fails(5, "flare template promote");
    place.flare(["template", "rollback", "t"]).fails(5, "hint");
    place.flare(["template", "upload", "t", "--version", "a b"]).fails(2, "hint");
    place.flare(["session", "list", "--cursor", "nonsense"]).fails(2, "cursor");
    assert_eq!(
        place.flare(["template", "list", "--json"]).ok().json()["items"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(place.flare(["session", "list", "--json"]).ok().json()["items"], serde_json::json!([]));
}

#[test]
fn an_interrupted_wait_leaves_the_server_to_it() {
    let place = Place::new();
    let server = place.server();
    std::fs::create_dir(place.path("work/slow")).expect("made");
    std::fs::write(place.path("work/slow/flare.toml"), "setup = [\"sleep 100\"]\n").expect("written");
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &server.url]).ok();
    place.flare(["template", "create", "t"]).ok();
    let version =
        place.flare(["template", "upload", "t", "--version", "1", "--dir", "slow", "--json"]).ok().json();
    place.flare(["template", "promote", "t", "1", "--no-wait"]).fails(5, "hint");
    let mut waiting = place.command(crate::flare::EXE);
    let mut waiting = waiting
        .args(["template", "promote", "t", "1"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(waiting.stderr.take().expect("a pipe")));
    let shown = lines.by_ref().map_while(Result::ok).find(|line| line.contains("setup-1"));
    assert!(shown.is_some(), "the step is shown");
    rustix::process::kill_process(rustix::process::Pid::from_child(&waiting), Signal::INT).expect("sent");
    assert_eq!(crate::flare::wait(&mut waiting).expect("ends").code(), Some(130));
    let build = version["build_id"].as_str().expect("an id");
    assert_eq!(place.flare(["build", "show", build, "--json"]).ok().json()["state"], "running");
    place.flare(["build", "cancel", build]).ok();
    place.flare(["template", "promote", "t", "1"]).fails(10, "hint");
}
