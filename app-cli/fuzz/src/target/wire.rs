//! What agents and servers say to each other: either side may be broken into.

use std::fmt::Debug;

use burstflare_ports::wire::frame::{self, Decoder};
use burstflare_ports::wire::terminal::{FromViewer, NewTerminal, ToViewer};
use burstflare_ports::wire::tree::{Digest, Entry, Header, Summary};
use burstflare_ports::wire::{Activity, Boot, ExecOutput, ExecRequest, Ready, Refusal, Shutdown, path};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Target, texts};

pub(super) const FRAME: Target = Target {
    name: "frame",
    run: frames,
    seeds: || {
        let mut stream = frame::encode(&Bytes::from_static(b"hello")).to_vec();
        stream.extend_from_slice(&frame::encode_trailer(b"{\"format\":1}"));
        vec![stream, frame::encode_trailer(b"").to_vec(), vec![0, 16, 0, 0, 1], Vec::new()]
    },
    words: &[b"\0\0\0\0", b"\0\x10\0\0", b"\0\x10\0\x01", b"\xff\xff\xff\xff"],
    longest: 4096,
};

/// The first byte says which message the rest is.
pub(super) const MESSAGE: Target = Target {
    name: "message",
    run: message,
    seeds: messages,
    words: &[
        b"\"protocol\":",
        b"\"epoch\":",
        b"\"argv\":",
        b"\"env\":{",
        b"\"timeout_ms\":",
        b"18446744073709551616",
        b"-1",
        b"1e400",
        b"null",
        b"\"\\ud800\"",
        b"\"kind\":",
        b"\"file\"",
        b"\"blake3\":",
        b"\"path\":",
        b"[[[[[[",
        b"{\"a\":",
    ],
    longest: 4096,
};

pub(super) const PATH: Target = Target {
    name: "path",
    run: |bytes| {
        assert_eq!(path::decode(&path::encode(bytes)).as_deref(), Some(bytes));
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Some(decoded) = path::decode(text)
        {
            assert_eq!(path::encode(&decoded), text, "one form for each path");
        }
    },
    seeds: || texts(&["src/main.rs", "100%25", "a%0Ab%7F", "%FF%C3", "gr\u{fc}n \u{1f980}", "%2", "%41"]),
    words: &[b"%25", b"%0A", b"%C3%BC", b"\xc2\x85", b"%", b"\xf0\x9f\xa6\x80"],
    longest: 512,
};

/// In whatever pieces a stream comes, the chunks together are the same.
fn frames(bytes: &[u8]) {
    let read = |piece: usize| {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            match decoder.push(piece) {
                Ok(chunks) => chunks.iter().for_each(|chunk| all.extend_from_slice(chunk)),
                Err(error) => return Err(error),
            }
        }
        decoder.finish().map(|trailer| (all, trailer))
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(3));
    if let Ok((chunks, trailer)) = whole {
        assert!(chunks.len() + trailer.len() <= bytes.len());
    }
}

fn json<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_string(&read).expect("what was read is written");
    let again: T = serde_json::from_str(&text).expect("what was written is read");
    assert_eq!(serde_json::to_string(&again).expect("it is written again"), text);
    Some(read)
}

fn read_only<T: DeserializeOwned + Debug>(bytes: &[u8]) {
    let _ = serde_json::from_slice::<T>(bytes).map(|message| format!("{message:?}").len());
}

fn message(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 13 {
        0 => read_only::<Boot>(rest),
        1 => drop(json::<ExecRequest>(rest)),
        2 => drop(json::<ExecOutput>(rest)),
        3 => drop(json::<Ready>(rest)),
        4 => drop(json::<Refusal>(rest)),
        5 => drop(json::<Shutdown>(rest)),
        6 => drop(json::<Header>(rest)),
        7 => drop(json::<Summary>(rest)),
        9 => drop(json::<FromViewer>(rest)),
        10 => drop(json::<ToViewer>(rest)),
        11 => drop(json::<NewTerminal>(rest)),
        12 => drop(json::<Activity>(rest)),
        _ => {
            if let Some(entry) = json::<Entry>(rest) {
                let mut digest = Digest::default();
                digest.add(&entry);
                assert_eq!(digest.summary().digest.len(), 64);
            }
        }
    }
}

fn messages() -> Vec<Vec<u8>> {
    [
        r#"{"protocol":1,"machine":"ses_01","epoch":3,"key":"k","ssh_host_seed":"s","hostname":"h","roots":["/workspace"],"home":"/home/flare","env":{"A":"b"},"on_start":"make","egress":{"listen":"127.0.0.1:3128","socket":"/run/e"},"path":["/usr/bin"]}"#,
        r#"{"argv":["sh","-c","true"],"cwd":"/workspace","env":{"A":"b"},"timeout_ms":1000}"#,
        r#"{"stdout":"hello\n"}"#,
        r#"{"protocol":1,"oldest_protocol":1,"capabilities":["x"],"machine":"m","epoch":1,"ssh_host_key":"ssh-ed25519 A","uptime_ms":5}"#,
        r#"{"code":"invalid","message":"no"}"#,
        r#"{"grace_ms":5000}"#,
        r#"{"format":1,"roots":["/workspace","/home/flare"],"entries":2}"#,
        r#"{"format":1,"digest":"00","files":1,"bytes":2,"archive_blake3":null}"#,
        r#"{"path":"workspace/a%0A","kind":"file","mode":420,"mtime_ns":1700000000000000000,"size":3,"blake3":"ab","link":null}"#,
        r#"{"hello":{"protocol":1,"size":{"rows":24,"columns":80},"scrollback":100,"viewer":"abcdefghijklmnop"}}"#,
        r#"{"screen":{"cause":"join","size":{"rows":24,"columns":80},"bytes":100}}"#,
        r#"{"argv":["bash"],"cwd":"/workspace","env":{"A":"b"},"size":{"rows":24,"columns":80}}"#,
        r#"{"last_active_ms_ago":5,"reason":"exec","busy":[{"reason":"exec","count":1}],"cpu_ms":1,"mark":5,"ending":false}"#,
    ]
    .iter()
    .enumerate()
    .map(|(which, text)| [&[u8::try_from(which).unwrap_or(0)], text.as_bytes()].concat())
    .collect()
}
