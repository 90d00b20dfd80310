//! `/v1/archive` with archives that no honest sender makes.

use std::os::unix::fs::{PermissionsExt, symlink};

use burstflare_ports::wire::files::ArchiveReceived;
use http::Method;
use tar::{EntryType, Header};

use crate::machine::{Machine, give_away};

struct Entry<'a> {
    kind: EntryType,
    name: &'a str,
    link: &'a str,
    mode: u32,
    content: &'a [u8],
}

const fn file<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { kind: EntryType::Regular, name, link: "", mode: 0o644, content }
}

const fn other<'a>(kind: EntryType, name: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind, name, link, mode: 0o755, content: b"" }
}

/// Names are written as they are: the tar crate's own functions would refuse them.
fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_size(entry.content.len() as u64);
        header.set_mode(entry.mode);
        header.set_mtime(1);
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

async fn put(machine: &Machine, path: &str, entries: &[Entry<'_>]) -> (u16, Vec<u8>) {
    let (status, body) =
        machine.call(Method::PUT, &format!("/v1/archive?path={path}"), archive(entries)).await;
    (status.as_u16(), body.to_vec())
}

fn names(root: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn what_breaks_the_rules_changes_nothing() {
    let machine = Machine::start();
    for (entries, why) in [
        (vec![file("fine", b"x"), file("/etc/x", b"x")], "absolute"),
        (vec![file("fine", b"x"), file("../x", b"x")], "above"),
        (vec![file("a/../../x", b"x")], "above, later"),
        (vec![other(EntryType::Symlink, "l", "d"), file("l/x", b"x")], "through a link"),
        (vec![file("a", b"x"), file("a/b", b"x")], "below a file"),
        (vec![file("a", b"x"), file("a", b"y")], "twice"),
        (vec![file("", b"x")], "no name"),
    ] {
        let (status, _) = put(&machine, "d", &entries).await;
        assert_eq!(status, 422, "{why}");
        assert!(names(&machine.roots[0]).is_empty(), "{why}");
    }
    let mut cut = archive(&[file("a", &[7; 4096])]);
    cut.truncate(2048);
    assert_eq!(machine.call(Method::PUT, "/v1/archive?path=d", cut).await.0, 422);
    assert!(names(&machine.roots[0]).is_empty());
    for (path, status) in [("/etc", 403), ("../x", 400), ("no/where", 404)] {
        assert_eq!(put(&machine, path, &[file("a", b"x")]).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn what_may_not_be_there_is_left_out_and_told() {
    let machine = Machine::start();
    let entries = [
        other(EntryType::Directory, "./", ""),
        Entry { mode: 0o6755, ..file("tool", b"x") },
        other(EntryType::Symlink, "absolute", "/etc/passwd"),
        other(EntryType::Symlink, "up", "../../x"),
        other(EntryType::Symlink, "sly", "in/../../x"),
        other(EntryType::Symlink, "fine", "tool"),
        other(EntryType::Link, "hard", "tool"),
        other(EntryType::Char, "device", ""),
        other(EntryType::Fifo, "pipe", ""),
        file("deep/er/f", b"x"),
    ];
    let (status, body) = put(&machine, "d", &entries).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let received: ArchiveReceived = serde_json::from_slice(&body).unwrap();
    assert_eq!((received.entries, received.skipped, received.why.len()), (3, 6, 6), "{received:?}");
    let root = machine.roots[0].join("d");
    assert_eq!(names(&root), ["deep", "fine", "tool"]);
    assert_eq!(std::fs::metadata(root.join("tool")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[tokio::test]
async fn what_is_there_is_neither_followed_nor_lost() {
    let machine = Machine::start();
    let scratch = machine.scratch();
    let root = machine.roots[0].join("d");
    std::fs::create_dir_all(root.join("folder/precious")).unwrap();
    std::fs::write(root.join("old"), "old").unwrap();
    symlink(&scratch, root.join("link")).unwrap();
    symlink(scratch.join("target"), root.join("file")).unwrap();
    give_away(&machine.roots[0]);
    let entries = [
        file("folder", b"x"),
        file("link/in", b"x"),
        file("file", b"new"),
        file("old", b"new"),
        file("folder-too/x", b"x"),
    ];
    let (status, body) = put(&machine, "d", &entries).await;
    assert_eq!(status, 200);
    let received: ArchiveReceived = serde_json::from_slice(&body).unwrap();
    assert_eq!(received.skipped, 2, "{received:?}");
    assert!(root.join("folder/precious").is_dir() && root.join("folder-too/x").is_file());
    assert_eq!(std::fs::read_to_string(root.join("old")).unwrap(), "new");
    assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "new", "the link itself was replaced");
    assert!(names(&scratch).is_empty(), "nothing was written through a link");
    assert_eq!(names(&machine.roots[0]), ["d"]);
    // A folder behind a link that stays inside is a way; one that is the last name is not.
    symlink("d", machine.roots[0].join("in")).unwrap();
    assert_eq!(put(&machine, "in", &[file("x", b"x")]).await.0, 409);
}
