//! Snapshots in format 2, in this process: trees that change at random, against what a plain look at them tells.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use crate::snapshot_place::{Place, Store, assert_same, mtime, noise, picture, set, set_time};
use burstflare_agent::snapshot::measure;
use burstflare_ports::wire::tree::Summary;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[derive(Debug, Clone)]
enum Edit {
    Write(usize, u64, usize),
    /// Same size, time set back to what it was.
    Overwrite(usize, u64),
    Append(usize, u64, usize),
    Truncate(usize, u8),
    /// Data, a hole, data.
    Sparse(usize, u64, u32),
    Delete(usize),
    Rename(usize, usize),
    Folder(usize),
    Chmod(usize, u32),
    Time(usize, i64),
    Link(usize, Vec<u8>),
    HardLink(usize, usize),
    Pipe(usize),
    Copy(usize, usize),
    RootMode(u32),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = 0..40usize;
    let size = prop_oneof![0..200usize, 1000..100_000usize, 300_000..3_000_000usize];
    prop_oneof![
        4 => (at.clone(), any::<u64>(), size.clone()).prop_map(|(at, seed, size)| Edit::Write(at, seed, size)),
        2 => (at.clone(), any::<u64>()).prop_map(|(at, seed)| Edit::Overwrite(at, seed)),
        2 => (at.clone(), any::<u64>(), size).prop_map(|(at, seed, size)| Edit::Append(at, seed, size)),
        1 => (at.clone(), any::<u8>()).prop_map(|(at, part)| Edit::Truncate(at, part)),
        1 => (at.clone(), any::<u64>(), any::<u32>()).prop_map(|(at, seed, hole)| Edit::Sparse(at, seed, hole)),
        2 => at.clone().prop_map(Edit::Delete),
        2 => (at.clone(), at.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        3 => at.clone().prop_map(Edit::Folder),
        2 => (at.clone(), 0..0o2000u32).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        1 => (at.clone(), -5_000_000_000_000..2_000_000_000_000_000_000i64).prop_map(|(at, time)| Edit::Time(at, time)),
        1 => (at.clone(), prop::collection::vec(1..=255u8, 1..150)).prop_map(|(at, to)| Edit::Link(at, to)),
        2 => (at.clone(), at.clone()).prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => at.clone().prop_map(Edit::Pipe),
        1 => (at.clone(), at).prop_map(|(from, to)| Edit::Copy(from, to)),
        1 => (0..0o2000u32).prop_map(Edit::RootMode),
    ]
}

/// Paths that collide, nest and sort oddly; the last few lie in the other root.
fn path_of(place: &Place, at: usize) -> PathBuf {
    const NAMES: [&[u8]; 10] = [
        b"a",
        b"a-",
        b"a.b",
        b"a/b",
        b"a/b/c",
        b"a-/x",
        b"b\xff\n",
        b"b\xff\n/%25",
        "ü 🦀".as_bytes(),
        b"a/b/c/d",
    ];
    let root = if at >= 30 { &place.roots[1] } else { &place.roots[0] };
    let below = match at / 10 {
        0 | 3 => PathBuf::new(),
        1 => PathBuf::from("deep/deeper"),
        _ => PathBuf::from("a"),
    };
    root.join(below).join(OsStr::from_bytes(NAMES[at % 10]))
}

/// Edits as a user would; what is not possible is left out.
fn apply(place: &Place, edit: &Edit) -> std::io::Result<()> {
    let at = |at: usize| path_of(place, at);
    let clear = |path: &Path| -> std::io::Result<()> {
        fs::create_dir_all(path.parent().unwrap())?;
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(_) => Ok(()),
        }
    };
    let file = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    match edit {
        Edit::Write(path, seed, size) => {
            let path = at(*path);
            if !file(&path) {
                clear(&path)?;
            }
            fs::write(path, noise(*seed, *size))
        }
        Edit::Overwrite(path, seed) if file(&at(*path)) => {
            let path = at(*path);
            let time = mtime(&path);
            let size = path.metadata()?.len();
            let handle = fs::OpenOptions::new().write(true).open(&path)?;
            handle.write_all_at(&noise(*seed, usize::try_from(size.min(5000)).unwrap()), size / 3)?;
            handle.set_len(size)?;
            set_time(&path, time);
            Ok(())
        }
        Edit::Append(path, seed, size) if file(&at(*path)) => {
            let mut handle = fs::OpenOptions::new().append(true).open(at(*path))?;
            std::io::Write::write_all(&mut handle, &noise(*seed, *size))
        }
        Edit::Truncate(path, part) if file(&at(*path)) => {
            let handle = fs::OpenOptions::new().write(true).open(at(*path))?;
            handle.set_len(handle.metadata()?.len() * u64::from(*part) / 256)
        }
        Edit::Sparse(path, seed, hole) => {
            let path = at(*path);
            if !file(&path) {
                clear(&path)?;
            }
            let handle = fs::File::create(path)?;
            let hole = u64::from(hole % (3 << 20));
            handle.write_all_at(&noise(*seed, 5000), 0)?;
            handle.write_all_at(&noise(*seed, 70_000), 5000 + hole)?;
            handle.set_len(75_000 + 2 * hole)
        }
        Edit::Delete(path) => clear(&at(*path)),
        Edit::Rename(from, to) if at(*from).symlink_metadata().is_ok() && !at(*to).starts_with(at(*from)) => {
            let (from, to) = (at(*from), at(*to));
            if from.starts_with(&to) {
                return Ok(());
            }
            clear(&to)?;
            fs::rename(from, to)
        }
        Edit::Folder(path) => {
            let path = at(*path);
            if path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
                clear(&path)?;
            }
            fs::create_dir_all(path)
        }
        Edit::Chmod(path, mode) if at(*path).symlink_metadata().is_ok_and(|meta| !meta.is_symlink()) => {
            let path = at(*path);
            // Everything stays open to an ordinary user's own edits; what is shut is tested elsewhere.
            let open = if path.is_dir() { 0o700 } else { 0o600 };
            set(&path, (mode & 0o1777) | open);
            Ok(())
        }
        Edit::Time(path, time) if at(*path).symlink_metadata().is_ok() => {
            set_time(&at(*path), *time);
            Ok(())
        }
        Edit::Link(path, target) => {
            clear(&at(*path))?;
            symlink(OsStr::from_bytes(target), at(*path))
        }
        Edit::HardLink(from, to) if file(&at(*from)) && from != to && at(*from) != at(*to) => {
            clear(&at(*to))?;
            fs::hard_link(at(*from), at(*to))
        }
        Edit::Pipe(path) => {
            clear(&at(*path))?;
            rustix::fs::mkfifoat(rustix::fs::CWD, at(*path), rustix::fs::Mode::from_raw_mode(0o620))?;
            Ok(())
        }
        Edit::Copy(from, to) if file(&at(*from)) && at(*from) != at(*to) => {
            let bytes = fs::read(at(*from))?;
            clear(&at(*to))?;
            fs::write(at(*to), bytes)
        }
        Edit::RootMode(mode) => {
            set(&place.roots[1], (mode & 0o1777) | 0o700);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// How much longer than usual: `SNAPSHOT_CASES=20`.
fn scale() -> u32 {
    std::env::var("SNAPSHOT_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn trees_that_change_at_random_come_back_from_increments() {
    let batches = prop::collection::vec(prop::collection::vec(edit(), 1..12), 1..6);
    let mut runner =
        TestRunner::new(Config { cases: 12 * scale(), failure_persistence: None, ..Config::default() });
    runner
        .run(&batches, |batches| {
            let place = Place::new();
            let (mut store, mut parent) = (Store::default(), Vec::new());
            for edits in batches {
                for edit in &edits {
                    // What a user cannot do is not done: a folder below a file.
                    let _ = apply(&place, edit);
                }
                let before = picture(&place.roots);
                let taken = store.snapshot(&place.names(), &parent, None);
                assert_same(&picture(&place.roots), &before);
                assert_eq!(taken.packed.summary.files as usize, before.len());
                assert_eq!(taken.scanned.digest, taken.packed.summary.digest);
                let aside = place.set_aside();
                let summary = measure::restore(&place.names(), &store.stream(&taken.manifest)[..]).unwrap();
                assert_eq!(Summary { archive_blake3: None, ..taken.packed.summary }, summary);
                assert_same(&picture(&place.roots), &before);
                place.set_back(&aside);
                parent = taken.manifest;
            }
            Ok(())
        })
        .unwrap();
}
