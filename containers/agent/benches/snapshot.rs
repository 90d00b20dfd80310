//! Snapshots beside restic: the same tree, the same disk, the same run.
//!
//! `cargo bench -p burstflare-agent --bench snapshot` copies 36,000 files out of `SNAPSHOT_FROM` (folders separated
//! by `:`; `/usr/share` and the registry's sources if nothing is said) and measures the engine in this process, with
//! packs written and flushed as a store would, and `restic` with a repository on the same disk, where it is
//! installed. `SNAPSHOT_FILES` is another number of files, `SNAPSHOT_DIR` another place to work in.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "what was measured is its output")]

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use burstflare_agent::snapshot::measure;
use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::stream::{self, Decoder, Order, Part};
use burstflare_ports::wire::snapshot::{Scanned, manifest};

fn main() {
    let base = std::env::var_os("SNAPSHOT_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let work = tempfile::Builder::new().prefix("snapshot-bench-").tempdir_in(base).unwrap();
    let tree = work.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let files = std::env::var("SNAPSHOT_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(36_000);
    let mut left = files;
    let home = std::env::var("HOME").unwrap_or_default();
    let from = std::env::var("SNAPSHOT_FROM").unwrap_or(format!("/usr/share:{home}/.cargo/registry/src"));
    for (number, folder) in from.split(':').enumerate() {
        copy(Path::new(folder), &tree.join(number.to_string()), &mut left);
    }
    let done = Command::new("sync").status().unwrap();
    assert!(done.success());
    let (count, bytes) = weigh(&tree);
    println!(
        "tree: {count} files, {:.1} MB; {} threads",
        mega(bytes),
        std::thread::available_parallelism().unwrap()
    );
    let ours = ours(work.path(), &tree);
    let theirs = restic(work.path(), &tree);
    println!("\n{:<20} {:>12} {:>12}", "", "burstflare", "restic");
    for (at, what) in ["first", "unchanged", "one file changed", "restore"].iter().enumerate() {
        let theirs =
            theirs.as_ref().map_or("-".to_owned(), |times| format!("{:.3} s", times[at].as_secs_f64()));
        println!("{what:<20} {:>10.3} s {theirs:>12}", ours[at].as_secs_f64());
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn copy(from: &Path, to: &Path, left: &mut u64) {
    let Ok(entries) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).unwrap();
    for entry in entries.flatten() {
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if *left == 0 {
            return;
        } else if kind.is_dir() {
            copy(&entry.path(), &target, left);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_file() && fs::copy(entry.path(), target).is_ok() {
            *left -= 1;
        }
    }
}

fn weigh(folder: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let (files, bytes) = match meta.is_dir() {
            true => weigh(&entry.path()),
            false => (u64::from(meta.is_file()), if meta.is_file() { meta.len() } else { 0 }),
        };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    sum
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = what();
    (value, start.elapsed())
}

/// The shortest of several: what else the machine does is not measured.
fn shortest(mut what: impl FnMut()) -> Duration {
    (0..5).map(|_| timed(&mut what).1).min().unwrap()
}

/// A snapshot into a folder of packs; the manifest is the answer.
fn take(roots: &[String], parent: &[u8], store: &Path) -> (Vec<u8>, Scanned, u64) {
    let (taken, scanning) = timed(|| measure::scan(roots, parent, "disk", None).unwrap());
    let scanned = taken.scanned.clone();
    let mut decoder = Decoder::new(Order::PacksFirst);
    let (mut head, mut pack, mut stored) = (Vec::new(), None, 0);
    taken
        .pack(&HashMap::new(), |piece| {
            for part in decoder.push(&piece).unwrap() {
                match part {
                    Part::PackBegin(begun) => {
                        pack = Some(fs::File::create(store.join(begun.hash.to_string())).unwrap());
                    }
                    Part::PackBytes(bytes) => {
                        stored += bytes.len() as u64;
                        pack.as_mut().unwrap().write_all(&bytes).unwrap();
                    }
                    Part::PackEnd { .. } => pack.take().unwrap().sync_all().unwrap(),
                    Part::Manifest(bytes) => head.extend_from_slice(&bytes),
                }
            }
            Ok(())
        })
        .unwrap();
    if std::env::var_os("SNAPSHOT_VERBOSE").is_some() {
        println!("  scan took {:.3} s", scanning.as_secs_f64());
    }
    (head, scanned, stored)
}

/// The packs of a manifest as a stream, read from their folder as it goes.
fn stream_of<'s>(head: &[u8], store: &'s Path) -> impl Read + use<'s> {
    let (tables, _) = manifest::decode(head).unwrap();
    let mut pieces = vec![stream::manifest(head)];
    let mut packs = tables.packs.into_iter();
    let more = std::iter::from_fn(move || {
        if let Some(piece) = pieces.pop() {
            return Some(piece.to_vec());
        }
        let pack = packs.next()?;
        let bytes = fs::read(store.join(pack.hash.to_string())).unwrap();
        Some([&stream::begin(&pack)[..], &stream::bytes(&bytes), &stream::end(b"")].concat())
    });
    Pieces { more: more.chain([frame::encode_trailer(b"{}").to_vec()]), current: Vec::new(), at: 0 }
}

struct Pieces<I> {
    more: I,
    current: Vec<u8>,
    at: usize,
}

impl<I: Iterator<Item = Vec<u8>>> Read for Pieces<I> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.current.len() {
            (self.current, self.at) = (self.more.next().unwrap_or_default(), 0);
        }
        let length = buffer.len().min(self.current.len() - self.at);
        buffer[..length].copy_from_slice(&self.current[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

fn change(tree: &Path, turn: u64) {
    fs::write(tree.join("changed"), format!("one file, changed {turn}")).unwrap();
}

fn ours(work: &Path, tree: &Path) -> [Duration; 4] {
    let store = work.join("packs");
    fs::create_dir(&store).unwrap();
    let roots = [tree.to_str().unwrap().to_owned()];
    let ((mut head, scanned, stored), first) = timed(|| take(&roots, b"", &store));
    println!(
        "burstflare: {} entries, read {:.1} MB of {} files, stored {:.1} MB + manifest {:.1} MB",
        scanned.entries,
        mega(scanned.read_bytes),
        scanned.read_files,
        mega(stored),
        mega(head.len() as u64)
    );
    let mut looked = Scanned::default();
    let unchanged = shortest(|| looked = take(&roots, &head, &store).1);
    println!("unchanged: {} entries, {} files read", looked.entries, looked.read_files);
    let mut turn = 0;
    let changed = shortest(|| {
        turn += 1;
        change(tree, turn);
        head = take(&roots, &head, &store).0;
    });
    let aside = work.join("aside");
    fs::rename(tree, &aside).unwrap();
    fs::create_dir(tree).unwrap();
    let (summary, restore) = timed(|| measure::restore(&roots, stream_of(&head, &store)).unwrap());
    println!("restored {} entries, {:.1} MB", summary.files, mega(summary.bytes));
    assert_eq!(weigh(tree), weigh(&aside));
    fs::remove_dir_all(tree).unwrap();
    fs::rename(aside, tree).unwrap();
    [first, unchanged, changed, restore]
}

fn restic(work: &Path, tree: &Path) -> Option<[Duration; 4]> {
    let run = |arguments: &[&str]| {
        let output = Command::new("restic")
            .args(arguments)
            .arg("--repo")
            .arg(work.join("repository"))
            .arg("--cache-dir")
            .arg(work.join("cache"))
            .env("RESTIC_PASSWORD", "bench")
            .output()
            .ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(version) = run(&["version"]) else {
        println!("restic is not installed: nothing to compare with");
        return None;
    };
    print!("{version}");
    run(&["init"])?;
    let path = tree.to_str().unwrap();
    let (said, first) = timed(|| run(&["backup", path]));
    println!(
        "restic: {}",
        said?
            .lines()
            .filter(|line| line.contains("processed") || line.contains("Added"))
            .collect::<Vec<_>>()
            .join("; ")
    );
    let unchanged = shortest(|| drop(run(&["backup", path])));
    let mut turn = 100;
    let changed = shortest(|| {
        turn += 1;
        change(tree, turn);
        run(&["backup", path]);
    });
    let target = work.join("restored");
    let (_, restore) = timed(|| run(&["restore", "latest", "--target", target.to_str().unwrap()]));
    Some([first, unchanged, changed, restore])
}
