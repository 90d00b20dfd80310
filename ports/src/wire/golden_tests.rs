//! The messages as bytes: machines outlive servers, so none of these literals may change within a version.

use std::collections::BTreeMap;

use super::tree::{Digest, Entry, Header, Kind, Summary};
use super::*;
use crate::secret::Secret;

pub(super) fn golden<T>(message: &T, literal: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    assert_eq!(serde_json::to_string(message).expect("serialises"), literal);
    let read: T = serde_json::from_str(literal).expect("reads");
    assert_eq!(serde_json::to_string(&read).expect("serialises"), literal);
}

#[test]
fn boot() {
    let boot = Boot {
        protocol: 1,
        machine: "ses_1".into(),
        epoch: 3,
        key: Secret::new("k".into()),
        ssh_host_seed: Secret::new("c2VlZA==".into()),
        hostname: "box".into(),
        roots: vec!["/workspace".into(), "/home/flare".into()],
        home: "/home/flare".into(),
        env: BTreeMap::from([("A".into(), "1".into())]),
        on_start: None,
        egress: Some(Egress { listen: "127.0.0.1:3128".into(), socket: "/run/egress.sock".into() }),
        path: vec!["/opt/tool/bin".into()],
        run: run_folder(),
    };
    golden(
        &boot,
        r#"{"protocol":1,"machine":"ses_1","epoch":3,"key":"k","ssh_host_seed":"c2VlZA==","hostname":"box","roots":["/workspace","/home/flare"],"home":"/home/flare","env":{"A":"1"},"on_start":null,"egress":{"listen":"127.0.0.1:3128","socket":"/run/egress.sock"},"path":["/opt/tool/bin"]}"#,
    );
    let sparse: Boot = serde_json::from_str(
        r#"{"protocol":9,"machine":"m","epoch":0,"key":"k","ssh_host_seed":"","hostname":"h","roots":[],"home":"/","env":{},"on_start":null,"egress":null,"later":true}"#,
    )
    .expect("unknown fields are ignored and `path` may be absent");
    assert!(sparse.path.is_empty());
    assert!(!format!("{boot:?}").contains("c2VlZA"), "secrets are not printed");
}

#[test]
fn ready_refusal_shutdown() {
    golden(
        &Ready {
            protocol: 1,
            oldest_protocol: 1,
            capabilities: vec![],
            machine: "ses_1".into(),
            epoch: 3,
            ssh_host_key: "ssh-ed25519 AAAA".into(),
            uptime_ms: 5,
        },
        r#"{"protocol":1,"oldest_protocol":1,"capabilities":[],"machine":"ses_1","epoch":3,"ssh_host_key":"ssh-ed25519 AAAA","uptime_ms":5}"#,
    );
    golden(
        &Ready {
            protocol: 2,
            oldest_protocol: 1,
            capabilities: vec![capability::TERMINALS.into()],
            machine: "ses_1".into(),
            epoch: 3,
            ssh_host_key: "ssh-ed25519 AAAA".into(),
            uptime_ms: 5,
        },
        r#"{"protocol":2,"oldest_protocol":1,"capabilities":["terminals"],"machine":"ses_1","epoch":3,"ssh_host_key":"ssh-ed25519 AAAA","uptime_ms":5}"#,
    );
    // What agents of each version say to a call that they do not know.
    golden(
        &Refusal { code: "not_found".into(), message: UNKNOWN_CALL_MESSAGE.into() },
        r#"{"code":"not_found","message":"This agent knows no such call."}"#,
    );
    golden(
        &Refusal { code: UNKNOWN_CALL.into(), message: UNKNOWN_CALL_MESSAGE.into() },
        r#"{"code":"unknown_call","message":"This agent knows no such call."}"#,
    );
    golden(
        &Refusal { code: "stale_epoch".into(), message: "Too late.".into() },
        r#"{"code":"stale_epoch","message":"Too late."}"#,
    );
    golden(&Shutdown { grace_ms: 10_000 }, r#"{"grace_ms":10000}"#);
    golden(&Quiesce { grace_ms: 10_000, if_idle_since: None }, r#"{"grace_ms":10000}"#);
    golden(
        &Quiesce { grace_ms: 10_000, if_idle_since: Some(77) },
        r#"{"grace_ms":10000,"if_idle_since":77}"#,
    );
}

#[test]
fn ports() {
    let python = port::OpenPort { port: 3000, process: Some("python3".into()) };
    let unknown = port::OpenPort { port: 8080, process: None };
    golden(
        &port::OpenPorts { ports: vec![python, unknown] },
        r#"{"ports":[{"port":3000,"process":"python3"},{"port":8080}]}"#,
    );
}

#[test]
fn exec() {
    golden(&ExecRequest { argv: vec!["true".into()], ..ExecRequest::default() }, r#"{"argv":["true"]}"#);
    golden(
        &ExecRequest {
            argv: vec!["sh".into(), "-c".into(), "id".into()],
            cwd: Some("/tmp".into()),
            env: BTreeMap::from([("A".into(), "1".into())]),
            timeout_ms: Some(5),
            ..ExecRequest::default()
        },
        r#"{"argv":["sh","-c","id"],"cwd":"/tmp","env":{"A":"1"},"timeout_ms":5}"#,
    );
    golden(
        &ExecRequest {
            argv: vec!["cat".into()],
            stdin: Some("a".into()),
            stdin_b64: Some("/w==".into()),
            output_limit: Some(9),
            tty: Some(TtySize { cols: 80, rows: 24 }),
            detach: true,
            ..ExecRequest::default()
        },
        r#"{"argv":["cat"],"stdin":"a","stdin_b64":"/w==","output_limit":9,"tty":{"cols":80,"rows":24},"detach":true}"#,
    );
    golden(&ExecInput::Eof, r#""eof""#);
    golden(&ExecInput::Resize(TtySize { cols: 1, rows: 2 }), r#"{"resize":{"cols":1,"rows":2}}"#);
    golden(&ExecInput::Signal("INT".into()), r#"{"signal":"INT"}"#);
    golden(&ExecOutput::Ack(7), r#"{"ack":7}"#);
    golden(&ExecOutput::TimedOut(5), r#"{"timed_out":5}"#);
    golden(&ExecOutput::OutputLimit(9), r#"{"output_limit":9}"#);
    golden(&ExecOutput::Stdout("a\n".into()), r#"{"stdout":"a\n"}"#);
    golden(&ExecOutput::StdoutB64("/w==".into()), r#"{"stdout_b64":"/w=="}"#);
    golden(&ExecOutput::Stderr("e".into()), r#"{"stderr":"e"}"#);
    golden(&ExecOutput::StderrB64("/w==".into()), r#"{"stderr_b64":"/w=="}"#);
    golden(&ExecOutput::Exit(3), r#"{"exit":3}"#);
    golden(&ExecOutput::Signal("KILL".into()), r#"{"signal":"KILL"}"#);
    golden(&ExecOutput::Error("no".into()), r#"{"error":"no"}"#);
}

#[test]
fn secrets() {
    let secrets =
        Secrets { version: 3, values: BTreeMap::from([("A".into(), Secret::new("sesame".into()))]) };
    golden(&secrets, r#"{"version":3,"values":{"A":"sesame"}}"#);
    assert!(!format!("{secrets:?}").contains("sesame"), "values are not printed");
}

#[test]
fn activity() {
    let names = [
        (Reason::Start, "start"),
        (Reason::TerminalInput, "terminal_input"),
        (Reason::SshInput, "ssh_input"),
        (Reason::Preview, "preview"),
        (Reason::Exec, "exec"),
        (Reason::Files, "files"),
        (Reason::Job, "job"),
        (Reason::Cpu, "cpu"),
    ];
    for (reason, name) in names {
        golden(&reason, &format!("\"{name}\""));
    }
    assert_eq!(serde_json::from_str::<Reason>("\"of tomorrow\"").expect("reads"), Reason::Other);
    golden(
        &Activity {
            last_active_ms_ago: 1500,
            reason: Reason::SshInput,
            busy: vec![Busy { reason: Reason::Job, count: 2 }],
            cpu_ms: 40,
            mark: 77,
            ending: false,
        },
        r#"{"last_active_ms_ago":1500,"reason":"ssh_input","busy":[{"reason":"job","count":2}],"cpu_ms":40,"mark":77,"ending":false}"#,
    );
}

#[test]
fn tree_manifest_and_digest() {
    let folder = Entry {
        path: "workspace".into(),
        kind: Kind::Folder,
        mode: 0o755,
        mtime_ns: -1,
        size: 0,
        blake3: None,
        link: None,
    };
    let file = Entry {
        path: path::encode(b"workspace/100%\xff"),
        kind: Kind::File,
        mode: 0o640,
        mtime_ns: 1_700_000_000_123_456_789,
        size: 3,
        blake3: Some(blake3::hash(b"abc").to_hex().to_string()),
        link: None,
    };
    let link = Entry {
        path: "workspace/l".into(),
        kind: Kind::Link,
        mode: 0o777,
        mtime_ns: 0,
        size: 0,
        blake3: None,
        link: Some("100%25%FF".into()),
    };
    golden(
        &Header { format: 1, roots: vec!["/workspace".into()], entries: 3 },
        r#"{"format":1,"roots":["/workspace"],"entries":3}"#,
    );
    golden(&folder, r#"{"path":"workspace","kind":"d","mode":493,"mtime_ns":-1}"#);
    golden(
        &file,
        r#"{"path":"workspace/100%25%FF","kind":"f","mode":416,"mtime_ns":1700000000123456789,"size":3,"blake3":"6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"}"#,
    );
    golden(&link, r#"{"path":"workspace/l","kind":"l","mode":511,"mtime_ns":0,"link":"100%25%FF"}"#);
    let mut digest = Digest::default();
    for entry in [&folder, &file, &link] {
        digest.add(entry);
    }
    golden(
        &digest.summary(),
        r#"{"format":1,"digest":"e7abac8f0d73636ee870e52b7d6de4d1b7e2e7bdd0f9ccdafc204d51c6ddf777","files":3,"bytes":3}"#,
    );
    golden(
        &Summary { format: 1, digest: "d".into(), files: 1, bytes: 2, archive_blake3: Some("a".into()) },
        r#"{"format":1,"digest":"d","files":1,"bytes":2,"archive_blake3":"a"}"#,
    );
}

#[test]
fn file_messages() {
    use super::files::{Cut, FileChange, FileInfo, FileKind, FolderPage, Found, Hit};
    let file = FileInfo {
        path: "/workspace/a%FF".into(),
        kind: FileKind::File,
        size: 3,
        mode: 0o644,
        mtime_ns: 1_000_000_001,
        etag: Some("\"00\"".into()),
        link: None,
    };
    golden(
        &FolderPage {
            folder: FileInfo {
                kind: FileKind::Folder,
                etag: None,
                path: "/workspace".into(),
                ..file.clone()
            },
            items: vec![
                file,
                FileInfo {
                    path: "/workspace/l".into(),
                    kind: FileKind::Link,
                    size: 1,
                    mode: 0o777,
                    mtime_ns: -1,
                    etag: None,
                    link: Some("a".into()),
                },
            ],
            next: Some("l".into()),
        },
        r#"{"folder":{"path":"/workspace","kind":"folder","size":3,"mode":420,"mtime_ns":1000000001},"items":[{"path":"/workspace/a%FF","kind":"file","size":3,"mode":420,"mtime_ns":1000000001,"etag":"\"00\""},{"path":"/workspace/l","kind":"link","size":1,"mode":511,"mtime_ns":-1,"link":"a"}],"next":"l"}"#,
    );
    golden(
        &FileChange::Mkdir { path: "a".into(), parents: true },
        r#"{"action":"mkdir","path":"a","parents":true}"#,
    );
    golden(
        &FileChange::Rename { path: "a".into(), to: "b".into(), replace: false },
        r#"{"action":"rename","path":"a","to":"b","replace":false}"#,
    );
    golden(
        &Found {
            items: vec![Hit {
                path: "/w/a".into(),
                kind: FileKind::Other,
                line: Some(2),
                text: Some("x".into()),
            }],
            looked_at: 5,
            cut: Some(Cut::Hits),
        },
        r#"{"items":[{"path":"/w/a","kind":"other","line":2,"text":"x"}],"looked_at":5,"cut":"hits"}"#,
    );
}

#[test]
fn metrics_and_archives() {
    let activity = Activity {
        last_active_ms_ago: 1,
        reason: Reason::Exec,
        busy: vec![],
        cpu_ms: 2,
        mark: 3,
        ending: false,
    };
    golden(
        &Metrics {
            source: MetricsSource::Processes,
            cpu_ms: 2,
            cpu_millicores: 250,
            memory: 4,
            disk: 5,
            disk_complete: true,
            processes: 6,
            uptime_ms: 7,
            activity,
        },
        r#"{"source":"processes","cpu_ms":2,"cpu_millicores":250,"memory":4,"disk":5,"disk_complete":true,"processes":6,"uptime_ms":7,"activity":{"last_active_ms_ago":1,"reason":"exec","busy":[],"cpu_ms":2,"mark":3,"ending":false}}"#,
    );
    golden(
        &files::ArchiveReceived { entries: 1, bytes: 2, skipped: 3, why: vec!["x".into()] },
        r#"{"entries":1,"bytes":2,"skipped":3,"why":["x"]}"#,
    );
}
