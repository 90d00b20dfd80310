//! Bundles: what is in them, and that they are the same each time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use flare::bundle::{collect, pack, starter};
use flare::exit::Failure;

type Entries = BTreeMap<String, (char, u32, Vec<u8>)>;

fn put(dir: &Path, name: &str, text: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, text).expect("written");
}

fn packed(dir: &Path) -> Result<(Entries, String), Failure> {
    let (items, _) = collect(dir)?;
    let mut packed = pack(&items)?;
    packed.file.rewind().expect("rewound");
    let mut archive = tar::Archive::new(zstd::Decoder::new(&packed.file).expect("zstd"));
    let mut entries = Entries::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_end_matches('/').to_owned();
        let header = entry.header().clone();
        assert_eq!(
            (header.uid().ok(), header.gid().ok(), header.mtime().ok()),
            (Some(0), Some(0), Some(315_532_800))
        );
        let (kind, content) = match header.entry_type() {
            tar::EntryType::Directory => ('d', Vec::new()),
            tar::EntryType::Symlink => ('l', entry.link_name_bytes().expect("a target").into_owned()),
            tar::EntryType::Regular => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("read");
                ('f', bytes)
            }
            other => panic!("{other:?}"),
        };
        let before = entries.insert(name, (kind, header.mode().expect("a mode"), content));
        assert!(before.is_none(), "twice");
    }
    Ok((entries, packed.digest))
}

fn names(entries: &Entries) -> Vec<&str> {
    entries.keys().map(String::as_str).collect()
}

#[test]
fn everything_is_kept_byte_for_byte_and_mode_for_mode() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    let every: Vec<u8> = (0..=255).collect();
    put(root, "flare.toml", b"");
    put(root, "every byte", &every);
    put(root, "bin/run", b"#!/bin/sh\n");
    fs::set_permissions(root.join("bin/run"), fs::Permissions::from_mode(0o751)).expect("set");
    put(root, "ünï/日本語.txt", "текст".as_bytes());
    let long = format!("{}/{}/{}", "d".repeat(120), "e".repeat(200), "f".repeat(250));
    put(root, &long, b"long");
    fs::create_dir(root.join("empty")).expect("made");
    symlink("../bin//./run", root.join("ünï/link")).expect("linked");
    symlink(&long, root.join("long link")).expect("linked");
    symlink("nowhere", root.join("dangling")).expect("linked");
    fs::hard_link(root.join("every byte"), root.join("hard")).expect("linked");
    let (entries, _) = packed(root).expect("packed");
    assert_eq!(entries["every byte"], ('f', 0o644, every.clone()));
    assert_eq!(entries["hard"], ('f', 0o644, every), "hard links become files");
    assert_eq!((entries["bin/run"].0, entries["bin/run"].1), ('f', 0o751));
    assert_eq!(entries["ünï/日本語.txt"].2, "текст".as_bytes());
    assert_eq!(entries[&long].2, b"long");
    assert_eq!(entries["empty"].0, 'd');
    assert_eq!(entries["ünï/link"].2, b"../bin//./run", "targets are not tidied");
    assert_eq!(entries["long link"].2, long.as_bytes());
    assert_eq!(entries["dangling"].0, 'l');
}

#[test]
fn the_same_folder_gives_the_same_digest() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for (at, dir) in [(0, one.path()), (1, other.path())] {
        let mut files = ["flare.toml", "z", "a/b", "a-b", "a/c"];
        if at == 1 {
            // Made in another order, at another time.
            files.reverse();
        }
        for name in files {
            put(dir, name, name.as_bytes());
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 * (at + 1));
            fs::File::open(dir.join(name)).and_then(|file| file.set_modified(time)).expect("set");
        }
    }
    let (first, second) = (packed(one.path()).expect("packed"), packed(other.path()).expect("packed"));
    assert_eq!(first.1, second.1);
    put(one.path(), "z", b"other");
    assert_ne!(packed(one.path()).expect("packed").1, first.1);
}

#[test]
fn ignore_files_apply_without_a_repository_and_git_never_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    for name in [
        "flare.toml",
        ".hidden",
        "keep.log",
        "drop.log",
        "target/out",
        "sub/x.tmp",
        "sub/y",
        "sub/deep/z.tmp",
        ".git/config",
        "sub/.git/config",
        "kept/by/flareignore.bin",
        "outside.env",
    ] {
        put(root, name, b"x");
    }
    put(root, ".gitignore", b"*.log\n!keep.log\n/target/\n*.bin\nflare.toml\n");
    put(root, "sub/.gitignore", b"*.tmp\n");
    put(root, ".flareignore", b"*.env\n!*.bin\n");
    // Rules of the machine or of other tools do not count.
    put(root, ".ignore", b"sub/y\n");
    put(root, ".git/info/exclude", b".hidden\n");
    let (entries, _) = packed(root).expect("packed");
    assert_eq!(
        names(&entries),
        [
            ".flareignore",
            ".gitignore",
            ".hidden",
            ".ignore",
            "flare.toml",
            "keep.log",
            "kept",
            "kept/by",
            "kept/by/flareignore.bin",
            "sub",
            "sub/.gitignore",
            "sub/deep",
            "sub/y"
        ]
    );
}

#[test]
fn rules_above_the_folder_do_not_count() {
    let dir = tempfile::tempdir().expect("a folder");
    put(dir.path(), ".gitignore", b"*\n");
    put(dir.path(), "in/flare.toml", b"");
    put(dir.path(), "in/a", b"");
    assert_eq!(names(&packed(&dir.path().join("in")).expect("packed").0), ["a", "flare.toml"]);
}

#[test]
fn what_cannot_be_in_a_bundle_is_refused_by_name() {
    for (target, name) in [("/etc/passwd", "abs"), ("../../x", "up"), ("a/../../x", "down-up")] {
        let dir = tempfile::tempdir().expect("a folder");
        put(dir.path(), "flare.toml", b"");
        put(dir.path(), "d/a/x", b"");
        symlink(target, dir.path().join("d").join(name)).expect("linked");
        let failure = packed(dir.path()).expect_err("refused");
        assert_eq!(failure.exit, flare::exit::Exit::Usage);
        assert!(failure.message.contains(&format!("d/{name}")), "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.contains(target)));
    }
    let dir = tempfile::tempdir().expect("a folder");
    put(dir.path(), "flare.toml", b"");
    put(dir.path(), "suid", b"");
    fs::set_permissions(dir.path().join("suid"), fs::Permissions::from_mode(0o4755)).expect("set");
    assert!(packed(dir.path()).expect_err("refused").message.contains("suid"));
    let dir = tempfile::tempdir().expect("a folder");
    put(dir.path(), "flare.toml", b"");
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::Mode::RUSR).expect("made");
    assert!(packed(dir.path()).expect_err("refused").message.contains("pipe"));
}

#[test]
fn the_server_would_take_what_we_pack() {
    use burstflare_core::domain::bundle::{BundleLimits, Inspector};
    let mut packed = pack(&starter()).expect("packed");
    let mut bytes = Vec::new();
    packed.file.rewind().expect("rewound");
    packed.file.read_to_end(&mut bytes).expect("read");
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), packed.digest);
    let mut inspector = Inspector::new(BundleLimits::default());
    inspector.push(&bytes).expect("taken");
    let inspected = inspector.finish().expect("whole");
    let spec = burstflare_core::domain::manifest::parse(
        &inspected.manifest,
        &burstflare_core::domain::manifest::ManifestLimits::default(),
    );
    assert!(spec.expect("sound").not_supported_yet.is_empty(), "the starter asks for nothing in vain");
}
