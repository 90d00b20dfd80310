//! Secrets from the command line into machines, and nowhere else.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::flare::{Answer, EXE, PATIENCE, Place, run, session};

const FILE: &str = "/run/user/1000/flare/secrets.env";
/// What shells and careless quoting make something else of.
const HOSTILE: &str = "sesame-one 'single' \"double\" $HOME `id` \\ \n second line; exit 1 # \u{1f980}";

fn set(place: &Place, name: &str, value: &[u8]) -> Answer {
    let mut child = place
        .command(EXE)
        .args(["secret", "set", name, "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("a pipe").write_all(value).expect("written");
    child.wait_with_output().expect("ends").into()
}

fn sh(place: &Place, line: &str) -> Answer {
    place.flare(["session", "exec", "s", "--", "sh", "-c", line])
}

/// Runs a line until its output is as wanted.
fn until(place: &Place, line: &str, wanted: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = sh(place, line).ok().out;
        if said == wanted {
            return;
        }
        assert!(Instant::now() < end, "{said:?} is not {wanted:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// All files below a folder that hold one of these texts.
fn holders(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(about) = path.symlink_metadata() else { continue };
        if about.is_dir() {
            found.extend(holders(&path, texts));
        } else if about.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let holds = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            if texts.iter().any(holds) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_running_session_is_told_and_nobody_else() {
    let place = Place::new();
    let server = place.server_with_log();
    session(&place, &server, None);
    let made = set(&place, "TOKEN", HOSTILE.as_bytes()).ok();
    assert!(!made.out.contains("sesame") && !made.err.contains("sesame"), "{made:?}");
    until(&place, "printf %s \"$TOKEN\"", HOSTILE);
    // The file says the same to whoever is running already, and to nobody else.
    assert_eq!(sh(&place, &format!("unset TOKEN; . {FILE}; printf %s \"$TOKEN\"")).ok().out, HOSTILE);
    assert_eq!(sh(&place, &format!("stat -c '%a %u' {FILE}")).ok().out, "600 1000\n");
    assert_eq!(sh(&place, "stat -f -c %T /run/user/1000").ok().out, "tmpfs\n");
    // Rotated while it runs; one line end goes.
    let rotated = set(&place, "TOKEN", b"sesame-two\n").ok().json();
    assert_eq!(rotated["version"], 2);
    until(&place, "printf %s \"$TOKEN\"", "sesame-two");
    until(&place, &format!("cat {FILE}"), "export TOKEN='sesame-two'\n");
    let listed = place.flare(["secret", "list"]).ok().out;
    assert!(listed.contains("TOKEN") && !listed.contains("sesame"), "{listed}");
    for (name, value, code) in
        [("TOKEN", &b"a\0b"[..], 2), ("PATH", b"x", 2), ("A-B", b"x", 2), ("T", b"\xff", 2)]
    {
        assert_eq!(set(&place, name, value).code, code, "{name}");
    }
    // A value is no argument.
    place.flare(["secret", "set", "TOKEN", "sesame-three"]).fails(2, "unexpected");
    place.flare(["session", "stop", "s"]).ok();
    assert_eq!(holders(&server.data, &["sesame-one", "sesame-two"]), Vec::<String>::new());
    assert_eq!(holders(place.root.path(), &["sesame-"]), Vec::<String>::new(), "nor the logs");
    // A new machine is told at its start; what it was restored from knows nothing.
    let disk = fs::read_dir(server.data.join("machines")).expect("a folder").filter_map(Result::ok);
    for machine in disk.filter(|entry| entry.file_name().to_string_lossy().starts_with("ses_")) {
        fs::remove_dir_all(machine.path()).expect("removed");
    }
    place.flare(["session", "start", "s"]).ok();
    assert_eq!(sh(&place, "printf %s \"$TOKEN\"").ok().out, "sesame-two");
    assert_eq!(sh(&place, "grep -r sesame /workspace /home/flare || echo none").ok().out, "none\n");
    place.flare(["secret", "delete", "TOKEN"]).ok();
    until(&place, &format!("echo \"[$TOKEN]\"; ls {FILE} 2>/dev/null; true"), "[]\n");
    place.flare(["secret", "delete", "TOKEN"]).fails(3, "no such secret");
}

#[test]
fn on_start_and_ssh_find_them_and_a_new_master_key_keeps_them() {
    let place = Place::new();
    let server = place.server();
    let folder = place.path("template");
    fs::create_dir(&folder).expect("made");
    let manifest = "setup = [\"echo \\\"[${TOKEN-}]\\\" > built\"]\non_start = \"echo $TOKEN > ~/started\"\n";
    fs::write(folder.join("flare.toml"), manifest).expect("written");
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &server.url]).ok();
    set(&place, "TOKEN", b"sesame").ok();
    place.flare(["template", "create", "t"]).ok();
    run(place.command(EXE).args(["template", "upload", "t", "--version", "1", "--dir"]).arg(&folder)).ok();
    place.flare(["template", "promote", "t", "1"]).ok();
    place.flare(["session", "up", "s", "--template", "t"]).ok();
    assert_eq!(sh(&place, "cat built").ok().out, "[]\n", "builds get none");
    until(&place, "cat ~/started", "sesame\n");
    assert_eq!(place.flare(["ssh", "s", "--", "echo $TOKEN"]).ok().out, "sesame\n");
    let token = place.flare(["auth", "token"]).ok().out.trim().to_owned();
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));
    let data = place.path("data");
    fs::rename(data.join("master.key"), data.join("master.key.earlier")).expect("moved");
    let key = data.join("master.key");
    fs::write(&key, [5; 32]).expect("written");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    let server = place.server();
    let flare = |words: &[&str]| {
        let mut command = place.command(EXE);
        run(command.args(words).env("FLARE_URL", &server.url).env("FLARE_TOKEN", &token))
    };
    flare(&["session", "start", "s"]).ok();
    assert_eq!(flare(&["session", "exec", "s", "--", "sh", "-c", "echo $TOKEN"]).ok().out, "sesame\n");
}
