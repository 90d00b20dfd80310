//! `GET` and `PUT /v1/tree`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use burstflare_ports::wire::frame::Decoder;
use burstflare_ports::wire::tree::{Kind, Summary};
use bytes::Bytes;
use http::{Method, StatusCode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::machine::{Machine, give_away};

/// Everything that is kept of a tree: kind, mode, time, content or target.
pub(crate) type Picture = BTreeMap<Vec<u8>, (char, u32, i64, Vec<u8>)>;

pub(crate) fn picture(roots: &[impl AsRef<Path>]) -> Picture {
    let mut all = Picture::new();
    for (at, root) in roots.iter().enumerate() {
        look(root.as_ref(), at.to_string().into_bytes(), &mut all);
    }
    all
}

/// Only what differs, and not the whole content: these trees are large.
#[track_caller]
pub(crate) fn assert_same(left: &Picture, right: &Picture) {
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let brief = |picture: &Picture, name: &Vec<u8>| {
        picture.get(name).map(|(kind, mode, time, content)| {
            format!("{kind} {mode:o} {time} {}", blake3::hash(content).to_hex())
        })
    };
    let different: Vec<_> = names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| (burstflare_ports::wire::path::encode(name), brief(left, name), brief(right, name)))
        .collect();
    assert!(different.is_empty(), "{different:#?}");
}

fn look(path: &Path, name: Vec<u8>, all: &mut Picture) {
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let (letter, content) = if kind.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            look(&entry.path(), [&name[..], b"/", entry.file_name().as_bytes()].concat(), all);
        }
        ('d', Vec::new())
    } else if kind.is_symlink() {
        ('l', std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if kind.is_file() {
        ('f', std::fs::read(path).unwrap())
    } else {
        ('p', Vec::new())
    };
    all.insert(
        name,
        (letter, meta.mode() & 0o7777, meta.mtime() * 1_000_000_000 + meta.mtime_nsec(), content),
    );
}

/// The archive without frames, and its summary.
pub(crate) async fn capture(machine: &Machine) -> (Vec<u8>, Summary) {
    let (status, body) = machine.get("/v1/tree").await;
    assert_eq!(status, StatusCode::OK);
    let mut decoder = Decoder::default();
    let archive: Vec<u8> = decoder.push(&body).unwrap().into_iter().flatten().collect();
    let summary: Summary = serde_json::from_slice(&decoder.finish().unwrap()).unwrap();
    assert_eq!(summary.archive_blake3.as_deref(), Some(blake3::hash(&archive).to_hex().as_str()));
    (archive, summary)
}

async fn restore(machine: &Machine, archive: impl Into<Bytes>) -> (StatusCode, Bytes) {
    machine.call(Method::PUT, "/v1/tree", archive).await
}

/// Gets its roots under the names of another machine, as a session's life after the next one has them.
fn twin(machine: &Machine) -> Machine {
    let roots: Vec<String> = machine.roots.iter().map(|root| root.to_str().unwrap().to_owned()).collect();
    Machine::with(move |boot| boot.roots = roots)
}

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

pub(crate) fn odd_tree(machine: &Machine) {
    let root = &machine.roots[0];
    let at = |name: &[u8]| root.join(OsStr::from_bytes(name));
    std::fs::write(at(b"every byte"), (0..=255).collect::<Vec<u8>>()).unwrap();
    std::fs::write(at(b"large"), b"0123456789abcdef".repeat(100_000)).unwrap();
    std::fs::write(at(b"empty"), "").unwrap();
    std::fs::write(at(b"run"), "#!/bin/sh\n").unwrap();
    set(&at(b"run"), 0o755);
    std::fs::write(at("grün 🦀".as_bytes()), "x").unwrap();
    std::fs::write(at(b"not\xffutf8 100%"), "x").unwrap();
    std::fs::write(at(b"new\nline"), "x").unwrap();
    std::fs::create_dir_all(at(&b"d/".repeat(120))).unwrap();
    std::fs::create_dir(at(&b"n".repeat(255))).unwrap();
    std::fs::write(at(&[&b"n".repeat(255)[..], b"/", &b"m".repeat(254), b"\n"].concat()), "x").unwrap();
    // Whole paths sort otherwise than names do.
    for name in ["a", "a-b", "a.b"] {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("x"), name).unwrap();
    }
    symlink("../../outside//./x", at(b"link")).unwrap();
    symlink("/etc/passwd", at(b"absolute link")).unwrap();
    symlink(OsStr::from_bytes(&b"long\xfe/".repeat(60)), at(b"long link")).unwrap();
    std::fs::hard_link(at(b"run"), at(b"hard")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at(b"pipe"), rustix::fs::Mode::from_raw_mode(0o620)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at(b"socket")).unwrap();
    std::fs::create_dir(at(b"empty folder")).unwrap();
    std::fs::write(at(b"secret"), "mode 000").unwrap();
    set(&at(b"secret"), 0o000);
    std::fs::create_dir_all(at(b"shut/in")).unwrap();
    std::fs::write(at(b"shut/in/x"), "x").unwrap();
    std::fs::create_dir(at(b"sticky")).unwrap();
    set(&at(b"sticky"), 0o1777);
    std::fs::write(machine.roots[1].join(".bashrc"), "alias l=ls\n").unwrap();
    give_away(root);
    give_away(&machine.roots[1]);
    set(&at(b"shut/in"), 0o555);
    set(&at(b"shut"), 0o000);
    let old = rustix::fs::Timespec { tv_sec: -5, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(rustix::fs::CWD, at(b"a/x"), &times, rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::utimensat(rustix::fs::CWD, at(b"a"), &times, rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::utimensat(rustix::fs::CWD, root, &times, rustix::fs::AtFlags::empty()).unwrap();
}

pub(crate) fn without_socket(mut picture: Picture) -> Picture {
    picture.remove(&b"0/socket"[..]);
    picture
}

#[tokio::test]
async fn odd_trees_come_back_as_they_were() {
    let machine = Machine::start();
    odd_tree(&machine);
    let before = picture(&machine.roots);
    let (archive, summary) = capture(&machine).await;
    assert_same(&picture(&machine.roots), &before);
    assert_eq!(summary.files as usize, before.len() - 1, "all but the socket");
    assert!(capture(&machine).await.0 == archive, "the same tree is the same archive");
    // Something else is there by now.
    machine.sh("chmod 700 shut shut/in && rm -rf shut a && mkdir -p other/x && chmod 0 other run && rm -f empty && mkdir empty").await;
    let (status, body) = restore(&machine, archive.clone()).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let restored: Summary = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&restored.digest, restored.files, restored.bytes),
        (&summary.digest, summary.files, summary.bytes)
    );
    assert_same(&picture(&machine.roots), &without_socket(before));
    assert!(capture(&machine).await.0 == archive);
}

#[tokio::test]
async fn the_archive_is_what_the_format_says() {
    let machine = Machine::start();
    odd_tree(&machine);
    let (archive, summary) = capture(&machine).await;
    let tar = zstd::decode_all(&archive[..]).unwrap();
    let mut reader = tar::Archive::new(&tar[..]);
    let mut names = Vec::new();
    let mut manifest = Vec::new();
    for member in reader.entries().unwrap() {
        let mut member = member.unwrap();
        names.push(member.path_bytes().into_owned());
        if names.last().unwrap() == b".flare-manifest.jsonl" {
            std::io::Read::read_to_end(&mut member, &mut manifest).unwrap();
        }
    }
    assert_eq!(names.pop().unwrap(), b".flare-manifest.jsonl");
    assert!(names.is_sorted(), "sorted by whole paths");
    let roots: Vec<String> = machine.roots.iter().map(|root| root.to_str().unwrap().to_owned()).collect();
    assert!(names.iter().any(|name| *name == roots[0].as_bytes()[1..]), "the root itself is a member");
    let mut lines = std::str::from_utf8(&manifest).unwrap().lines();
    let header: burstflare_ports::wire::tree::Header = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((header.format, header.entries, header.roots), (1, names.len() as u64, roots));
    let mut digest = burstflare_ports::wire::tree::Digest::default();
    let mut kinds = String::new();
    for (line, name) in lines.zip(&names) {
        let entry: burstflare_ports::wire::tree::Entry = serde_json::from_str(line).unwrap();
        assert_eq!(burstflare_ports::wire::path::decode(&entry.path).unwrap(), *name);
        digest.add(&entry);
        if entry.kind != Kind::Folder {
            kinds.push(entry.kind.letter());
        }
    }
    assert_eq!(digest.summary().digest, summary.digest);
    assert!(kinds.contains('p') && kinds.matches('l').count() == 3, "{kinds}");
    // And others read it too.
    let file = machine.scratch().join("t.tar");
    std::fs::write(&file, &tar).unwrap();
    let listed = std::process::Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[tokio::test]
async fn damage_is_found_and_changes_nothing() {
    let machine = Machine::start();
    odd_tree(&machine);
    let (archive, _) = capture(&machine).await;
    machine.sh("echo new >now").await;
    let now = picture(&machine.roots);
    for cut in [0, 1, archive.len() / 3, archive.len() / 2, archive.len() - 5, archive.len() - 1] {
        let (status, body) = restore(&machine, archive[..cut].to_vec()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "cut at {cut}: {body:?}");
        assert!(body.starts_with(b"{\"code\":\"corrupt\""), "{body:?}");
    }
    let mut trailing = archive.clone();
    trailing.extend_from_slice(b"more");
    assert_eq!(restore(&machine, trailing).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let step = archive.len() / 60 + 1;
    let plain = zstd::decode_all(&archive[..]).unwrap();
    let mut harmless = 0;
    for at in (6..archive.len()).step_by(step) {
        let mut flipped = archive.clone();
        flipped[at] ^= 1 << (at % 8);
        // A few bits mean nothing to the decompressor: what comes out is the same, checksum and all.
        if zstd::decode_all(&flipped[..]).is_ok_and(|bytes| bytes == plain) {
            harmless += 1;
            continue;
        }
        let (status, body) = restore(&machine, flipped).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "flip at {at}: {body:?}");
    }
    assert!(harmless < 6, "{harmless} of 60 flips changed nothing");
    assert_same(&picture(&machine.roots), &now);
}

/// Damage that a checksum of the compression does not see: the archive was made so.
#[tokio::test]
async fn an_archive_that_lies_is_found() {
    let machine = Machine::start();
    std::fs::write(machine.roots[0].join("a"), "AAAA").unwrap();
    std::fs::write(machine.roots[0].join("b"), "BBBB").unwrap();
    let now = picture(&machine.roots);
    let tar = zstd::decode_all(&capture(&machine).await.0[..]).unwrap();
    let replace = |from: &[u8], to: &[u8]| {
        let mut all = tar.clone();
        let at = all.windows(from.len()).position(|window| window == from).expect("is in there");
        all[at..at + from.len()].copy_from_slice(to);
        zstd::encode_all(&all[..], 1).unwrap()
    };
    let root = machine.roots[0].to_str().unwrap();
    for (what, lie) in [
        ("content", replace(b"AAAA", b"AAAB")),
        ("manifest", replace(b"\"kind\":\"f\"", b"\"kind\":\"p\"")),
        ("format", replace(b"{\"format\":1", b"{\"format\":2")),
        ("count", replace(b"\"entries\":4", b"\"entries\":3")),
        (
            "path",
            replace(
                format!("{root}/a\",").as_bytes().split_at(1).1,
                format!("{root}/c\",").as_bytes().split_at(1).1,
            ),
        ),
    ] {
        let (status, body) = restore(&machine, lie).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{what}: {body:?}");
    }
    assert_same(&picture(&machine.roots), &now);
    // Another machine's roots are not ours.
    let other = Machine::start();
    let (status, _) = restore(&other, capture(&machine).await.0).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn files_that_change_while_read_spoil_nothing() {
    let machine = Machine::start();
    std::fs::write(machine.roots[0].join("log"), vec![7; 1 << 20]).unwrap();
    give_away(&machine.roots[0]);
    let script = "while [ ! -e stop ]; do head -c 3000000 /dev/urandom >log; : >log; rm -rf f; mkdir f; touch f/x; done";
    let busy = machine.open(Method::POST, "/v1/exec", format!(r#"{{"argv":["sh","-c","{script}"]}}"#)).await;
    let target = twin(&machine);
    for _ in 0..12 {
        let (archive, summary) = capture(&machine).await;
        let tar = zstd::decode_all(&archive[..]).unwrap();
        assert!(tar::Archive::new(&tar[..]).entries().unwrap().all(|member| member.is_ok()));
        assert!(summary.files >= 3);
    }
    std::fs::write(machine.roots[0].join("stop"), "").unwrap();
    drop(busy);
    drop(target);
}

#[derive(Debug, Clone)]
enum Node {
    Folder(u32),
    File(u32, Vec<u8>),
    Link(Vec<u8>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop::collection::vec(1..=255u8, 1..12)
        .prop_map(|bytes| bytes.into_iter().filter(|byte| *byte != b'/').collect::<Vec<u8>>());
    prop_oneof![
        prop::sample::select(vec!["a", "b", "a-", "a.b", "a0"]).prop_map(|name| name.as_bytes().to_vec()),
        odd
    ]
    .prop_filter("a name", |name| !matches!(&name[..], b"" | b"." | b"..") && name != b".flare-staging")
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        (0..0o1000u32).prop_map(Node::Folder),
        (0..0o1000u32, prop::collection::vec(any::<u8>(), 0..3000))
            .prop_map(|(mode, bytes)| Node::File(mode, bytes)),
        prop::collection::vec(1..=255u8, 1..150).prop_map(Node::Link),
    ]
}

#[test]
fn random_trees_come_back_as_they_were() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let machine = Machine::start();
    let strategy = prop::collection::vec((prop::collection::vec(name(), 1..5), node()), 0..30);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |nodes| {
            let root = &machine.roots[0];
            runtime.block_on(machine.sh("chmod -R u+rwx . && find . -mindepth 1 -delete"));
            let mut folders = Vec::new();
            for (path, node) in nodes {
                let path = root.join(OsStr::from_bytes(&path.join(&b'/')));
                // What lies in the way of an earlier one is left out.
                let made = match &node {
                    Node::Folder(mode) => {
                        std::fs::create_dir_all(&path).map(|()| folders.push((path.clone(), *mode)))
                    }
                    Node::File(mode, bytes) => std::fs::create_dir_all(path.parent().unwrap())
                        .and_then(|()| {
                            if path.symlink_metadata().is_ok() {
                                Err(std::io::ErrorKind::AlreadyExists.into())
                            } else {
                                Ok(())
                            }
                        })
                        .and_then(|()| std::fs::write(&path, bytes))
                        .map(|()| set(&path, *mode)),
                    Node::Link(target) => std::fs::create_dir_all(path.parent().unwrap())
                        .and_then(|()| symlink(OsStr::from_bytes(target), &path)),
                };
                drop(made);
            }
            give_away(root);
            for (path, mode) in folders {
                set(&path, mode);
            }
            let before = picture(&machine.roots);
            let (archive, summary) = runtime.block_on(capture(&machine));
            assert_same(&picture(&machine.roots), &before);
            runtime
                .block_on(machine.sh("chmod -R u+rwx . && find . -mindepth 1 -delete && echo other >other"));
            let (status, body) = runtime.block_on(restore(&machine, archive));
            prop_assert_eq!(status, StatusCode::OK, "{:?}", body);
            let restored: Summary = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(restored.digest, summary.digest);
            assert_same(&picture(&machine.roots), &before);
            Ok(())
        })
        .unwrap();
}
