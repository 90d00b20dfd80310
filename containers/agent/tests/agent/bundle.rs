//! `PUT /v1/bundle`: ordinary and hostile ones.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use burstflare_ports::wire::tree::Summary;
use http::{Method, StatusCode};
use tar::{Builder, EntryType, Header};

use crate::machine::Machine;

/// A member with any name: the tar crate would refuse to write most of these.
fn member(tar: &mut Builder<Vec<u8>>, name: &[u8], kind: EntryType, mode: u32, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn bundle(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    fill(&mut tar);
    tar.into_inner().unwrap()
}

fn zstd(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).unwrap()
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

fn ordinary() -> Vec<u8> {
    bundle(|tar| {
        member(tar, b"./", EntryType::Directory, 0o755, "", b"");
        member(tar, b"./flare.toml", EntryType::Regular, 0o644, "", b"setup = []\n");
        member(tar, b"./bin/run", EntryType::Regular, 0o755, "", b"#!/bin/sh\necho ran\n");
        member(tar, b"./bin/also", EntryType::Symlink, 0o777, "run", b"");
        member(tar, b"./empty/", EntryType::Directory, 0o555, "", b"");
    })
}

#[tokio::test]
async fn both_compressions_are_unpacked() {
    let mut digests = Vec::new();
    for packed in [zstd(&ordinary()), gzip(&ordinary())] {
        let machine = Machine::start();
        std::fs::write(machine.roots[0].join("flare.toml"), "old").unwrap();
        std::fs::write(machine.roots[0].join("kept"), "old").unwrap();
        let (status, body) = machine.call(Method::PUT, "/v1/bundle", packed).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let summary: Summary = serde_json::from_slice(&body).unwrap();
        assert_eq!((summary.files, summary.bytes), (5, 30));
        assert_eq!(machine.sh("./bin/also && cat flare.toml kept").await, "ran\nsetup = []\nold");
        assert!(machine.roots[0].join("empty").is_dir());
        let written = machine.roots[0].join("flare.toml").metadata().unwrap();
        assert_eq!(
            written.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
            1_700_000_000
        );
        assert_eq!(written.permissions().mode() & 0o7777, 0o644);
        digests.push(summary.digest);
        assert_clean(&machine);
    }
    assert_eq!(digests[0], digests[1]);
}

fn assert_clean(machine: &Machine) {
    assert!(!machine.roots[0].join(".flare-staging").exists(), "staging stayed behind");
}

#[tokio::test]
async fn hostile_bundles_are_refused_and_leave_nothing() {
    let file = EntryType::Regular;
    let link = EntryType::Symlink;
    type Fill = Box<dyn Fn(&mut Builder<Vec<u8>>)>;
    let one = |name: &'static [u8], kind: EntryType, mode: u32, to: &'static str| -> Fill {
        Box::new(move |tar| member(tar, name, kind, mode, to, b""))
    };
    let cases: Vec<(&str, Fill)> = vec![
        ("absolute", one(b"/tmp/flare-evil", file, 0o644, "")),
        ("parent", one(b"../evil", file, 0o644, "")),
        ("parent inside", one(b"a/../../evil", file, 0o644, "")),
        ("link outside", one(b"l", link, 0o777, "../..")),
        ("link absolute", one(b"l", link, 0o777, "/etc")),
        ("hard link", one(b"h", EntryType::Link, 0o644, "/etc/passwd")),
        ("device", one(b"d", EntryType::Char, 0o644, "")),
        ("pipe", one(b"p", EntryType::Fifo, 0o644, "")),
        ("set-id", one(b"s", file, 0o4755, "")),
        (
            "through a link",
            Box::new(|tar| {
                member(tar, b"l", EntryType::Symlink, 0o777, "sub", b"");
                member(tar, b"l/x", EntryType::Regular, 0o644, "", b"x");
            }),
        ),
        (
            "twice",
            Box::new(|tar| {
                member(tar, b"x", EntryType::Regular, 0o644, "", b"x");
                member(tar, b"./x", EntryType::Regular, 0o644, "", b"y");
            }),
        ),
        (
            "pax path outside",
            Box::new(|tar| {
                tar.append_pax_extensions([("path", &b"../evil"[..])]).unwrap();
                member(tar, b"fine", EntryType::Regular, 0o644, "", b"x");
            }),
        ),
        (
            "pax size larger than what follows",
            Box::new(|tar| {
                tar.append_pax_extensions([("size", &b"100000"[..])]).unwrap();
                member(tar, b"fine", EntryType::Regular, 0o644, "", b"x");
            }),
        ),
        (
            "pax size that hides a member",
            Box::new(|tar| {
                tar.append_pax_extensions([("size", &b"0"[..])]).unwrap();
                let mut inner = Builder::new(Vec::new());
                member(&mut inner, b"../evil", EntryType::Regular, 0o644, "", b"x");
                member(tar, b"fine", EntryType::Regular, 0o644, "", &inner.into_inner().unwrap());
            }),
        ),
        ("name too long", {
            let path: Vec<u8> = b"x".repeat(300);
            Box::new(move |tar| {
                tar.append_pax_extensions([("path", &path[..])]).unwrap();
                member(tar, b"fine", EntryType::Regular, 0o644, "", b"x");
            })
        }),
        ("header too long", {
            let path: Vec<u8> = b"x/".repeat(2 << 20);
            Box::new(move |tar| {
                tar.append_pax_extensions([("path", &path[..])]).unwrap();
                member(tar, b"fine", EntryType::Regular, 0o644, "", b"x");
            })
        }),
        ("ratio", Box::new(|tar| member(tar, b"zeros", EntryType::Regular, 0o644, "", &vec![0; 80 << 20]))),
    ];
    let machine = Machine::start();
    for (what, fill) in cases {
        let packed = zstd(&bundle(|tar| {
            member(tar, b"before", EntryType::Regular, 0o644, "", b"x");
            fill(tar);
        }));
        let (status, refusal) = machine.refusal(Method::PUT, "/v1/bundle", packed).await;
        assert_eq!(status, 422, "{what}: {refusal:?}");
        assert_eq!(std::fs::read_dir(&machine.roots[0]).unwrap().count(), 0, "{what} left something");
    }
    assert!(!std::path::Path::new("/tmp/flare-evil").exists());
}

#[tokio::test]
async fn damaged_bundles_are_refused_and_leave_nothing() {
    let machine = Machine::start();
    for packed in [zstd(&ordinary()), gzip(&ordinary())] {
        for cut in [1, packed.len() / 2, packed.len() - 1] {
            let (status, _) = machine.refusal(Method::PUT, "/v1/bundle", packed[..cut].to_vec()).await;
            assert_eq!(status, 422, "cut at {cut}");
        }
    }
    for junk in [&b""[..], b"PK\x03\x04zip", b"plain tar is not taken"] {
        assert_eq!(machine.refusal(Method::PUT, "/v1/bundle", junk.to_vec()).await.0, 422);
    }
    assert_eq!(std::fs::read_dir(&machine.roots[0]).unwrap().count(), 0);
}
