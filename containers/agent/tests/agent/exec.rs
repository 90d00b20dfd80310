//! `POST /v1/exec`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use burstflare_ports::wire::{ExecOutput, ExecRequest};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;

use crate::machine::{Machine, alive, eventually, sort_out};

fn sh(script: &str) -> ExecRequest {
    ExecRequest { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecRequest::default() }
}

#[tokio::test]
async fn statuses_and_signals_come_last() {
    let machine = Machine::start();
    for code in [0, 1, 42, 255] {
        assert_eq!(machine.exec(&sh(&format!("exit {code}"))).await.2, ExecOutput::Exit(code));
    }
    for name in ["TERM", "KILL", "USR1"] {
        let last = machine.exec(&sh(&format!("kill -{name} $$; sleep 5"))).await.2;
        assert_eq!(last, ExecOutput::Signal(name.into()));
    }
    let missing = ExecRequest { argv: vec!["no-such-program".into()], ..ExecRequest::default() };
    assert!(matches!(machine.exec(&missing).await.2, ExecOutput::Error(_)));
    let nowhere = ExecRequest { cwd: Some("/no/such".into()), ..sh("true") };
    assert!(matches!(machine.exec(&nowhere).await.2, ExecOutput::Error(_)));
}

#[tokio::test]
async fn both_streams_come_byte_by_byte() {
    let machine = Machine::start();
    let bytes = machine.roots[0].join("bytes");
    let content: Vec<u8> =
        (0..=255).cycle().take(300_000).chain("grün 🦀".bytes().cycle().take(300_001)).collect();
    std::fs::write(bytes, &content).unwrap();
    let (stdout, stderr, last) = machine.exec(&sh("cat bytes & cat bytes >&2; wait")).await;
    assert_eq!(last, ExecOutput::Exit(0));
    assert!(stdout == content && stderr == content);
}

#[tokio::test]
async fn surroundings_are_those_of_the_user() {
    let machine = Machine::start();
    let text = machine.sh("echo $PWD $HOME $USER $LOGNAME $LANG $FROM_BOOT; echo $PATH; echo $-").await;
    let (root, home) = (machine.roots[0].display(), machine.roots[1].display());
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), format!("{root} {home} flare flare C.UTF-8 yes"));
    assert!(lines.next().unwrap().starts_with("/opt/tool/bin:/usr/local/sbin:"), "{text}");
    let env = ExecRequest {
        cwd: Some("/tmp".into()),
        env: BTreeMap::from([("FROM_BOOT".into(), "no".into())]),
        ..sh("echo $PWD $FROM_BOOT")
    };
    assert_eq!(machine.exec(&env).await.0, b"/tmp no\n");
    // Nothing is inherited, and it leads its own session.
    assert_eq!(machine.sh("ls /proc/self/fd | tr '\\n' ' '").await, "0 1 2 3 ");
    assert_eq!(machine.sh("awk '{print ($1 == $6)}' /proc/$$/stat").await, "1\n");
    // Ignored signals are not passed on.
    assert_eq!(machine.sh("grep SigIgn /proc/self/status | tr -d 'SigIgn:\\t0'").await, "\n");
}

#[tokio::test]
async fn output_streams_while_the_command_runs() {
    let machine = Machine::start();
    let go = machine.roots[0].join("go");
    let body =
        serde_json::to_vec(&sh("echo first; while [ ! -e go ]; do sleep 0.02; done; echo second")).unwrap();
    let mut body = machine.open(Method::POST, "/v1/exec", body).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "{\"stdout\":\"first\\n\"}\n");
    std::fs::write(go, "").unwrap();
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(sort_out(&rest).0, b"second\n");
}

#[tokio::test]
async fn the_deadline_kills_the_whole_group() {
    let machine = Machine::start();
    let request = ExecRequest { timeout_ms: Some(300), ..sh("sleep 604 & echo $! >pid; echo started; wait") };
    let (stdout, _, last) = machine.exec(&request).await;
    assert_eq!(stdout, b"started\n");
    assert!(matches!(last, ExecOutput::Error(text) if text.contains("300 ms")));
    let pid = std::fs::read_to_string(machine.roots[0].join("pid")).unwrap();
    eventually("the child's death", || !alive(&pid)).await;
}

#[tokio::test]
async fn dropping_the_call_kills_the_whole_group() {
    let machine = Machine::start();
    let body = serde_json::to_vec(&sh("sleep 605 & echo $! >pid; echo started; wait")).unwrap();
    let mut body = machine.open(Method::POST, "/v1/exec", body).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let pid = std::fs::read_to_string(machine.roots[0].join("pid")).unwrap();
    eventually("the child's death", || !alive(&pid)).await;
}

#[tokio::test]
async fn a_reader_that_stalls_stalls_the_command() {
    let machine = Machine::start();
    let script = "i=0; while [ $i -lt 400 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >progress; done";
    let body = serde_json::to_vec(&sh(script)).unwrap();
    let mut body = machine.open(Method::POST, "/v1/exec", body).await.into_body();
    body.frame().await.unwrap().unwrap();
    let progress = || std::fs::read_to_string(machine.roots[0].join("progress")).unwrap_or_default();
    // Until it moves no more: 26 MB do not fit into what may be on its way.
    let mut before = progress();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = progress();
        if now == before && !now.is_empty() {
            break;
        }
        before = now;
    }
    assert!(before.trim().parse::<u32>().unwrap() < 200, "{before}");
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"{\"exit\":0}\n"));
}

#[tokio::test]
async fn a_process_that_stays_behind_does_not_hold_the_call() {
    let machine = Machine::start();
    let began = Instant::now();
    let (stdout, _, last) = machine.exec(&sh("sleep 606 & echo done")).await;
    assert_eq!((stdout, last), (b"done\n".to_vec(), ExecOutput::Exit(0)));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn senseless_requests_are_refused() {
    let machine = Machine::start();
    for body in [
        "",
        "{}",
        r#"{"argv":[]}"#,
        r#"{"argv":[""]}"#,
        r#"{"argv":["true"],"other":1}"#,
        r#"{"argv":["true"],"cwd":"x"}"#,
        r#"{"argv":["true"],"env":{"A=B":"x"}}"#,
        r#"{"argv":["a\u0000b"]}"#,
    ] {
        let (status, refusal) = machine.refusal(Method::POST, "/v1/exec", body).await;
        assert_eq!((status, refusal.code.as_str()), (400, "invalid"), "{body}");
    }
    let long = format!(r#"{{"argv":["true","{}"]}}"#, "x".repeat(128 << 10));
    assert_eq!(machine.refusal(Method::POST, "/v1/exec", long).await.0, 400);
    let huge = Bytes::from(vec![b' '; (1 << 20) + 1]);
    assert_eq!(machine.refusal(Method::POST, "/v1/exec", huge).await.0, 413);
}
