//! `flare exec`: input, exit codes, time, and what is left when the caller goes away.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Instant;

use crate::flare::{EXE, PATIENCE, Place, Server, run, session, wait};

fn ready() -> (Place, Server) {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    (place, server)
}

fn piped(place: &Place, words: &[&str]) -> Child {
    let mut command = place.command(EXE);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("runs")
}

/// Waits for a line of the session's that says so.
fn eventually(place: &Place, line: &str) {
    let end = Instant::now() + PATIENCE;
    while place.flare(["exec", "s", "-n", "--", "sh", "-c", line]).code != 0 {
        assert!(Instant::now() < end, "never true: {line}");
    }
}

#[test]
fn input_is_the_commands() {
    let (place, _server) = ready();
    let bytes: Vec<u8> = (0..=255).cycle().take(5_000_001).collect();
    let mut cat = piped(&place, &["exec", "s", "--", "cat"]);
    let mut input = cat.stdin.take().expect("a pipe");
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = cat.wait_with_output().expect("ends");
    writer.join().expect("joined").expect("written");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == bytes, "every byte comes back");
    // A command that does not read its input ends all the same, and says so with its code.
    for code in [0, 3, 255] {
        let mut unread = piped(&place, &["session", "exec", "s", "--", "sh", "-c", &format!("exit {code}")]);
        let status = wait(&mut unread).expect("ends");
        assert_eq!(status.code(), Some(code));
    }
    // A file is input, too; and the streams stay apart.
    std::fs::write(place.path("work/input"), "from a file").expect("written");
    let mut command = place.command(EXE);
    command.args(["exec", "s", "--", "sh", "-c", "cat; echo err >&2; kill -9 $$"]);
    command.stdin(std::fs::File::open(place.path("work/input")).expect("opens"));
    let answer = run(&mut command);
    assert_eq!((answer.code, answer.out.as_str()), (137, "from a file"));
    assert!(answer.err.starts_with("err\n"), "{answer:?}");
    let told =
        place.flare(["exec", "s", "--env", "A=b=c", "--cwd", "/tmp", "--", "sh", "-c", "echo $A $PWD"]).ok();
    assert_eq!(told.out, "b=c /tmp\n");
}

#[test]
fn time_is_kept_and_told() {
    let (place, _server) = ready();
    for words in [&["exec", "s", "-n"][..], &["exec", "s"]] {
        let mut command = place.command(EXE);
        command.args(words).args(["--timeout", "700ms", "--", "sh", "-c", "echo before; sleep 600"]);
        command.stdin(Stdio::piped());
        let answer = run(&mut command).fails(8, "longer than 0.7 s");
        assert_eq!(answer.out, "before\n");
    }
    place.flare(["exec", "s", "--timeout", "1d", "--", "true"]).fails(2, "unit");
    place.flare(["exec", "nobody", "--", "true"]).fails(3, "no such session");
}

#[test]
fn a_caller_who_goes_away_ends_the_command() {
    let (place, _server) = ready();
    for (number, words) in [&["exec", "s", "-n"][..], &["exec", "s"]].into_iter().enumerate() {
        let script =
            format!("trap 'echo bye >bye{number}; exit' TERM; echo ready; while :; do sleep 0.05; done");
        let mut words = words.to_vec();
        words.extend(["--", "sh", "-c", &script]);
        let mut child = piped(&place, &words);
        let mut first = [0; 6];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("a line");
        assert_eq!(&first, b"ready\n");
        child.kill().expect("killed");
        child.wait().expect("ended");
        // It was asked to end, not killed: it could say good-bye.
        eventually(&place, &format!("test -e bye{number}"));
    }
}
