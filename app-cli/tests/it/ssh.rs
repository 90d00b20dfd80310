//! The system's OpenSSH against a session: codes, terminals, copies, pinned keys.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::flare::{EXE, Place, Server, have, run, session};

fn ready() -> Option<(Place, Server, String)> {
    if !have("ssh") || !have("scp") || !have("sftp") {
        return None;
    }
    let place = Place::new();
    let server = place.server();
    let id = session(&place, &server, None);
    Some((place, server, id))
}

#[test]
fn exit_codes_words_and_streams_are_kept() {
    let Some((place, _server, id)) = ready() else { return };
    for code in [0, 1, 7, 254] {
        assert_eq!(place.flare(["ssh", &id, "--", &format!("exit {code}")]).code, code);
    }
    let said = place.flare(["ssh", "s", "--", "echo", "out;", "echo", "err >&2"]).ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
    // Options of ssh are ssh's.
    assert!(place.flare(["ssh", "s", "--", "-v", "true"]).ok().err.contains("debug1"));
    let mut echo = place
        .command(EXE)
        .args(["ssh", "s", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let sent = bytes.clone();
    let mut input = echo.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = echo.wait_with_output().expect("ends");
    writer.join().expect("joined").expect("written");
    assert!(output.stdout == bytes, "every byte comes back");
    place.flare(["ssh", "nobody"]).fails(3, "no such session");
}

#[test]
fn a_terminal_is_one() {
    let Some((place, _server, _id)) = ready() else { return };
    let said = run(place
        .command(EXE)
        .args(["ssh", "s", "--", "-tt", "tty; stty size; echo $TERM"])
        .env("TERM", "xterm-256color"))
    .ok();
    assert!(said.out.starts_with("/dev/pts/"), "{said:?}");
    assert!(said.out.contains("xterm-256color"), "{said:?}");
}

#[test]
fn a_sleeping_session_wakes_and_its_key_stays() {
    let Some((place, _server, _id)) = ready() else { return };
    place.flare(["ssh", "s", "--", "echo kept > a"]).ok();
    place.flare(["session", "stop", "s"]).ok();
    assert_eq!(place.flare(["ssh", "s", "--", "cat a"]).ok().out, "kept\n");
}

#[test]
fn plain_clients_reach_it_by_name() {
    let Some((place, server, _id)) = ready() else { return };
    let config = place.path("ssh_config");
    run(place.command(EXE).args(["config-ssh", "--yes", "--url", &server.url, "--file"]).arg(&config)).ok();
    let client = |program: &str| {
        let mut command = place.command(program);
        command.arg("-F").arg(&config);
        command
    };
    assert_eq!(run(client("ssh").args(["s.flare", "echo hi; exit 9"])).code, 9);
    // 64 MB there and back.
    let bytes: Vec<u8> = (0..64_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(place.path("work/big"), &bytes).expect("written");
    run(client("scp").args(["-q", "big", "s.flare:big"])).ok();
    let there = run(client("ssh").args(["s.flare", "sha256sum big"])).ok().out;
    let here = run(place.command("sha256sum").arg("big")).ok().out;
    assert_eq!(there, here);
    run(client("scp").args(["-q", "s.flare:big", "back"])).ok();
    assert!(fs::read(place.path("work/back")).expect("read") == bytes, "the same bytes come back");
    fs::write(place.path("work/batch"), "ls\n").expect("written");
    let listed = run(client("sftp").args(["-q", "-b", "batch", "s.flare"])).ok();
    assert!(listed.out.contains("built.txt") || listed.out.contains("big"), "{listed:?}");
    // It wakes, too.
    place.flare(["session", "stop", "s"]).ok();
    assert_eq!(run(client("ssh").args(["s.flare", "stat -c %s big"])).ok().out, "67108864\n");
}

#[test]
fn another_host_key_is_refused() {
    let Some((place, server, _id)) = ready() else { return };
    let config = place.path("ssh_config");
    run(place.command(EXE).args(["config-ssh", "--yes", "--url", &server.url, "--file"]).arg(&config)).ok();
    // What the proxy pins is what counts: with a file of another key in its place, OpenSSH goes no further.
    let wrong = place.path("wrong");
    fs::write(&wrong, "* ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\n")
        .expect("written");
    let refused = run(place
        .command("ssh")
        .arg("-F")
        .arg(&config)
        .arg("-o")
        .arg(format!("UserKnownHostsFile=\"{}\"", wrong.display()))
        .args(["s.flare", "true"]));
    refused.fails(255, "Host key verification failed");
}

#[test]
fn without_a_client_the_package_is_named() {
    let place = Place::new();
    let mut command = place.command(EXE);
    run(command.args(["ssh", "s", "--url", "http://127.0.0.1:1"]).env("PATH", "/nowhere"))
        .fails(1, "openssh-client");
    let doctor = run(place.command(EXE).args(["doctor", "--data-dir", "none"]).env("PATH", "/nowhere"));
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.out.contains("openssh-client"), "{doctor:?}");
    assert!(!place.path("work/none").exists(), "looking leaves nothing behind");
}

/// Types into a shell on a real terminal, as a person does.
#[test]
fn a_person_types_at_a_terminal() {
    if !have("script") {
        return;
    }
    let Some((place, _server, _id)) = ready() else { return };
    let mut typing = place
        .command("script")
        .args(["-qec", &format!("{EXE} ssh s"), "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut input = typing.stdin.take().expect("a pipe");
    input.write_all(b"stty -echo; echo \"tty:$(tty)\"; sleep 100\n").expect("typed");
    let (send, seen) = std::sync::mpsc::channel();
    let mut output = typing.stdout.take().expect("a pipe");
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = std::io::Read::read(&mut output, &mut piece) {
            if send.send(piece[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut text = String::new();
    let mut until = |what: &str| {
        while !text.contains(what) {
            let piece =
                seen.recv_timeout(crate::flare::PATIENCE).unwrap_or_else(|_| panic!("no `{what}` in {text}"));
            text.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    until("tty:/dev/pts/");
    // Ctrl-C ends what runs there, not the connection.
    input.write_all(b"\x03").expect("typed");
    input.write_all(b"echo still-$((40+2))\n").expect("typed");
    until("still-42");
    input.write_all(b"exit 5\n").expect("typed");
    assert_eq!(crate::flare::wait(&mut typing).expect("ends").code(), Some(5));
}
