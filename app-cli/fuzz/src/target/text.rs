//! Small texts: ids, names, addresses, keys.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use burstflare_core::domain::{ssh_key, token_text};
use burstflare_ports::blob::BlobKey;
use burstflare_ports::id::Id;
use burstflare_ports::machine::MachineOwner;
use burstflare_ports::record::{Build, Session, Workspace};
use burstflare_ports::text::{DisplayName, Email, Label, Slug};
use burstflare_ports::time::Timestamp;

use super::{Target, texts};

pub(super) const TEXT: Target = Target {
    name: "text",
    run: text,
    seeds: || {
        texts(&[
            "ses_01JD0000000000000000000000",
            "bld_7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "node-dev",
            "1.0.0-rc.1+build",
            "You@Example.com",
            "a@\u{130}.example",
            "Laptop, second",
            "ws_01/snapshots/ses_01/snp_01.tar.zst",
            "2026-11-23T14:00:00Z",
            "2026-11-23T14:00:00.123+05:30",
        ])
    },
    words: &[
        b"ses_",
        b"bld_",
        b"ws_",
        b"@",
        b"..",
        b"/",
        b"\xc4\xb0",
        b"\xcc\x87",
        b"T00:00:00Z",
        b"+",
        b"-",
        b"9999-12-31",
        b"\xe2\x80\xae",
        b"\xef\xb8\x8f",
    ],
    longest: 320,
};

pub(super) const SSH_KEY: Target = Target {
    name: "ssh_key",
    run: key,
    seeds: || {
        texts(&[
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea me@host",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQ==",
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY=",
            "flare_at_0000000000000000000000000000000000000000000000000000000000000000",
        ])
    },
    words: &[
        b"ssh-ed25519 ",
        b"ssh-rsa ",
        b"sk-ssh-ed25519@openssh.com ",
        b"AAAAC3NzaC1lZDI1NTE5",
        b"=",
        b"\t",
    ],
    longest: 1024,
};

/// What was accepted is accepted again in the form it is kept in: a record that was written can be read.
fn stable<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(parsed) = text.parse::<T>() {
        let kept = parsed.to_string();
        assert_eq!(kept.parse::<T>().expect("the kept form is well formed"), parsed);
    }
}

fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    stable::<Id<Session>>(text);
    stable::<Id<Build>>(text);
    stable::<Id<Workspace>>(text);
    stable::<MachineOwner>(text);
    stable::<Slug>(text);
    stable::<Label>(text);
    stable::<Email>(text);
    stable::<DisplayName>(text);
    stable::<BlobKey>(text);
    if let Ok(key) = text.parse::<BlobKey>() {
        let leaves = key.as_str().split('/').any(|part| matches!(part, "" | "." | ".."));
        assert!(!leaves && !key.as_str().contains('\\'), "{key} leaves its folder");
    }
    let quoted = serde_json::Value::from(text);
    if let Ok(time) = serde_json::from_value::<Timestamp>(quoted) {
        let kept = serde_json::to_value(time).expect("a time is written");
        assert_eq!(serde_json::from_value::<Timestamp>(kept).expect("a time is read"), time);
    }
}

fn key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(line) = ssh_key::parse(text) {
        assert_eq!(ssh_key::parse(&line).as_ref(), Ok(&line), "its form is final");
        assert!(line.split(' ').count() == 2 && !line.contains(['\n', '\r', '\0', '\t', '"']), "{line}");
    }
    let _ = token_text::recognise(text);
}
