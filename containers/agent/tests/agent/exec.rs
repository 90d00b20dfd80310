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
    assert_eq!(last, ExecOutput::TimedOut(300));
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

#[tokio::test]
async fn input_comes_with_the_request() {
    let machine = Machine::start();
    let cat = |request| ExecRequest { argv: vec!["cat".into()], ..request };
    let text = cat(ExecRequest { stdin: Some("grün\n".into()), ..ExecRequest::default() });
    assert_eq!(machine.exec(&text).await.0, "grün\n".as_bytes());
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
    let binary = cat(ExecRequest { stdin_b64: Some(encoded), ..ExecRequest::default() });
    assert!(machine.exec(&binary).await.0 == bytes);
    // Nobody has to read it, and without one there is an end at once.
    let unread = ExecRequest { stdin: Some("x".repeat(100_000)), ..sh("echo done") };
    assert_eq!(machine.exec(&unread).await.0, b"done\n");
    assert_eq!(machine.exec(&cat(ExecRequest::default())).await.2, ExecOutput::Exit(0));
    for bad in [
        r#"{"argv":["cat"],"stdin":"a","stdin_b64":"YQ=="}"#.to_owned(),
        r#"{"argv":["cat"],"stdin_b64":"%"}"#.to_owned(),
        format!(r#"{{"argv":["cat"],"stdin":"{}"}}"#, "x".repeat((128 << 10) + 1)),
    ] {
        assert_eq!(machine.refusal(Method::POST, "/v1/exec", bad).await.0, 400);
    }
}

#[tokio::test]
async fn who_does_not_obey_is_killed() {
    let machine = Machine::start();
    let obeying = ExecRequest {
        timeout_ms: Some(300),
        ..sh("trap 'echo last words; exit 3' TERM; echo $$ >pid; while :; do sleep 0.05; done")
    };
    let (stdout, _, last) = machine.exec(&obeying).await;
    assert_eq!((stdout, last), (b"last words\n".to_vec(), ExecOutput::TimedOut(300)));
    let stubborn = ExecRequest {
        timeout_ms: Some(300),
        ..sh(
            "trap '' TERM; (trap '' TERM; echo $$ >child; while :; do sleep 0.05; done) & echo $$ >pid; wait; sleep 60",
        )
    };
    assert_eq!(machine.exec(&stubborn).await.2, ExecOutput::TimedOut(300));
    let pid = std::fs::read_to_string(machine.roots[0].join("pid")).unwrap();
    eventually("the end of both", || !alive(&pid)).await;
}

#[tokio::test]
async fn output_has_a_limit_where_one_was_asked_for() {
    let machine = Machine::start();
    let (stdout, _, last) = machine.exec(&ExecRequest { output_limit: Some(100_000), ..sh("yes") }).await;
    assert_eq!((stdout.len(), last), (100_000, ExecOutput::OutputLimit(100_000)));
    let exact = ExecRequest { output_limit: Some(3), ..sh("echo ab") };
    assert_eq!(machine.exec(&exact).await.2, ExecOutput::Exit(0));
}

#[tokio::test]
async fn a_detached_command_goes_on_alone() {
    let machine = Machine::start();
    let script = "echo started; while [ ! -e go ]; do sleep 0.02; done; for i in 1 2 3; do echo $i; done; echo done >end";
    let body = serde_json::to_vec(&ExecRequest { detach: true, ..sh(script) }).unwrap();
    let mut body = machine.open(Method::POST, "/v1/exec", body).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    machine.sh("touch go").await;
    eventually("its end", || machine.roots[0].join("end").exists()).await;
}

#[tokio::test]
async fn a_terminal_is_one_where_it_was_asked_for() {
    use burstflare_ports::wire::TtySize;
    let machine = Machine::start();
    let request = ExecRequest {
        tty: Some(TtySize { cols: 91, rows: 17 }),
        stdin: Some("typed\n".into()),
        ..sh("test -t 0 && test -t 1 && stty size; echo $TERM; read line; echo got $line")
    };
    let (stdout, stderr, last) = machine.exec(&request).await;
    let text = String::from_utf8(stdout).unwrap().replace('\r', "");
    // What is typed is echoed in between, whenever it comes.
    let said = ["17 91\n", "xterm-256color\n", "got typed\n"].iter().all(|line| text.contains(line));
    assert!(said, "{text:?}");
    assert_eq!((stderr.len(), last), (0, ExecOutput::Exit(0)));
}

mod socket {
    use burstflare_ports::wire::{EPOCH_HEADER, EXEC_STDOUT, EXEC_WINDOW, ExecInput, TtySize};
    use futures_util::{SinkExt, StreamExt};
    use tokio::net::UnixStream;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use super::*;
    use crate::machine::{EPOCH, KEY};

    async fn open(machine: &Machine, request: &ExecRequest) -> WebSocketStream<UnixStream> {
        let stream = UnixStream::connect(machine.socket()).await.unwrap();
        let mut call = "ws://agent/v1/exec".into_client_request().unwrap();
        call.headers_mut().insert("authorization", format!("Bearer {KEY}").parse().unwrap());
        call.headers_mut().insert(EPOCH_HEADER, EPOCH.into());
        let (mut socket, _) = tokio_tungstenite::client_async(call, stream).await.unwrap();
        socket.send(Message::Text(serde_json::to_string(request).unwrap().into())).await.unwrap();
        socket
    }

    fn say(input: &ExecInput) -> Message {
        Message::Text(serde_json::to_string(input).unwrap().into())
    }

    /// Reads to the last word: standard output, and that word.
    async fn rest(socket: &mut WebSocketStream<UnixStream>) -> (Vec<u8>, ExecOutput) {
        let mut stdout = Vec::new();
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) if bytes[0] == EXEC_STDOUT => stdout.extend_from_slice(&bytes[1..]),
                Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                    ExecOutput::Ack(_) => {}
                    last => return (stdout, last),
                },
                other => unreachable!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn input_and_output_flow_at_the_same_time() {
        let machine = Machine::start();
        let mut socket =
            open(&machine, &ExecRequest { argv: vec!["cat".into()], ..ExecRequest::default() }).await;
        let total = 8 << 20;
        let bytes: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(total).collect();
        let (mut sent, mut taken, mut back) = (0, 0, Vec::new());
        while back.len() < total {
            while sent < total && sent - taken + 32_768 <= EXEC_WINDOW {
                let piece = bytes[sent..(sent + 32_768).min(total)].to_vec();
                sent += piece.len();
                socket.send(Message::Binary(piece.into())).await.unwrap();
            }
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => back.extend_from_slice(&bytes[1..]),
                Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                    ExecOutput::Ack(total) => taken = usize::try_from(total).unwrap(),
                    other => unreachable!("{other:?}"),
                },
                other => unreachable!("{other:?}"),
            }
        }
        assert!(back == bytes);
        socket.send(say(&ExecInput::Eof)).await.unwrap();
        assert_eq!(rest(&mut socket).await, (Vec::new(), ExecOutput::Exit(0)));
    }

    #[tokio::test]
    async fn signals_pass_a_full_input() {
        let machine = Machine::start();
        let script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done";
        let mut socket = open(&machine, &sh(script)).await;
        assert!(matches!(socket.next().await.unwrap().unwrap(), Message::Binary(_)));
        for _ in 0..EXEC_WINDOW / 65_536 {
            socket.send(Message::Binary(vec![0; 65_536].into())).await.unwrap();
        }
        socket.send(say(&ExecInput::Signal("INT".into()))).await.unwrap();
        assert_eq!(rest(&mut socket).await, (b"interrupted\n".to_vec(), ExecOutput::Exit(9)));
    }

    #[tokio::test]
    async fn a_terminal_is_resized() {
        let machine = Machine::start();
        let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done";
        let tty = Some(TtySize { cols: 80, rows: 24 });
        let mut socket = open(&machine, &ExecRequest { tty, ..sh(script) }).await;
        assert!(matches!(socket.next().await.unwrap().unwrap(), Message::Binary(_)));
        socket.send(say(&ExecInput::Resize(TtySize { cols: 100, rows: 30 }))).await.unwrap();
        let (stdout, last) = rest(&mut socket).await;
        assert_eq!((stdout, last), (b"30 100\r\n".to_vec(), ExecOutput::Exit(0)));
    }

    #[tokio::test]
    async fn a_caller_who_hangs_up_or_breaks_the_rules_ends_the_command() {
        let machine = Machine::start();
        for breaking in [false, true] {
            let mut socket = open(&machine, &sh("echo $$ >pid; echo ready; exec sleep 607")).await;
            assert!(matches!(socket.next().await.unwrap().unwrap(), Message::Binary(_)));
            let pid = std::fs::read_to_string(machine.roots[0].join("pid")).unwrap();
            if breaking {
                // More than the window, and nobody reads it.
                for _ in 0..2 * EXEC_WINDOW / 65_536 + 4 {
                    if socket.send(Message::Binary(vec![0; 65_536].into())).await.is_err() {
                        break;
                    }
                }
            } else {
                drop(socket);
            }
            eventually("the command's end", || !alive(&pid)).await;
        }
        let mut nonsense = open(&machine, &ExecRequest::default()).await;
        assert!(matches!(rest(&mut nonsense).await.1, ExecOutput::Error(_)));
        let (status, refusal) = machine.refusal(Method::GET, "/v1/exec", "").await;
        assert_eq!((status, refusal.code.as_str()), (400, "invalid"));
    }
}
