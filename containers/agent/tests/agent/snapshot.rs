//! Snapshots in format 2, in this process: trees that change at random, against what a plain look at them tells.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use burstflare_agent::snapshot::measure;
use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::stream::{self, Order, Part};
use burstflare_ports::wire::snapshot::{Hash, Have, Index, Packed, Scanned, manifest, tree};
use burstflare_ports::wire::tree::Summary;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

/// What an edge keeps: packs by their hash, and where each chunk lies.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) packs: HashMap<Hash, Vec<u8>>,
    pub(crate) chunks: HashMap<Hash, Have>,
    /// Bytes that came in.
    pub(crate) received: u64,
}

impl Store {
    /// Takes a machine's stream apart; answers the manifest and the trailer.
    pub(crate) fn take(&mut self, stream: &[u8]) -> (Vec<u8>, Packed) {
        let mut decoder = stream::Decoder::new(Order::PacksFirst);
        let (mut manifest, mut bytes) = (Vec::new(), Vec::new());
        for piece in stream.chunks(100_000) {
            for part in decoder.push(piece).unwrap() {
                match part {
                    Part::PackBegin(_) => bytes.clear(),
                    Part::PackBytes(more) => bytes.extend_from_slice(&more),
                    Part::PackEnd { pack, index } => {
                        self.received += bytes.len() as u64;
                        for chunk in Index::decode(&index).unwrap().chunks {
                            let have = Have {
                                hash: chunk.hash,
                                pack,
                                offset: chunk.offset,
                                stored: chunk.stored,
                                plain: chunk.plain,
                            };
                            self.chunks.insert(chunk.hash, have);
                        }
                        self.packs.insert(pack.hash, std::mem::take(&mut bytes));
                    }
                    Part::Manifest(more) => manifest.extend_from_slice(&more),
                }
            }
        }
        let packed = serde_json::from_slice(&decoder.finish().unwrap()).unwrap();
        (manifest, packed)
    }

    /// The stream that brings a snapshot back.
    pub(crate) fn stream(&self, manifest: &[u8]) -> Vec<u8> {
        let (tables, _) = manifest::decode(manifest).unwrap();
        let mut out = stream::manifest(manifest).to_vec();
        for pack in &tables.packs {
            out.extend_from_slice(&stream::begin(pack));
            out.extend_from_slice(&stream::bytes(&self.packs[&pack.hash]));
            out.extend_from_slice(&stream::end(b""));
        }
        out.extend_from_slice(&frame::encode_trailer(b"{}"));
        out
    }

    /// Scans and packs, as an edge would that looks up what it has.
    pub(crate) fn snapshot(&mut self, roots: &[String], parent: &[u8], began_ns: Option<i64>) -> Taken {
        let taken = measure::scan(roots, parent, "disk 1", began_ns).unwrap();
        let scanned = taken.scanned.clone();
        let lacking = taken.missing.iter().filter_map(|hash| Some((*hash, *self.chunks.get(hash)?)));
        let have = lacking.collect();
        let mut stream = Vec::new();
        let packed = taken
            .pack(&have, |piece| {
                stream.extend_from_slice(&piece);
                Ok(())
            })
            .unwrap();
        let (manifest, trailer) = self.take(&stream);
        assert_eq!(trailer, packed);
        Taken { manifest, scanned, packed }
    }
}

pub(crate) struct Taken {
    pub(crate) manifest: Vec<u8>,
    pub(crate) scanned: Scanned,
    pub(crate) packed: Packed,
}

/// Two roots.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) roots: Vec<PathBuf>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots: Vec<PathBuf> =
            ["workspace", "home/flare"].iter().map(|root| folder.path().join(root)).collect();
        for root in &roots {
            fs::create_dir_all(root).unwrap();
        }
        Self { folder, roots }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.roots.iter().map(|root| root.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.roots[0].join(name)
    }

    /// Everything somewhere else, so that restoring starts with nothing.
    pub(crate) fn set_aside(&self) -> PathBuf {
        let aside = self.folder.path().join("aside");
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir(&aside).unwrap();
        for (at, root) in self.roots.iter().enumerate() {
            fs::rename(root, aside.join(at.to_string())).unwrap();
            fs::create_dir(root).unwrap();
        }
        aside
    }

    pub(crate) fn set_back(&self, aside: &Path) {
        for (at, root) in self.roots.iter().enumerate() {
            fs::remove_dir_all(root).unwrap();
            fs::rename(aside.join(at.to_string()), root).unwrap();
        }
    }
}

/// What is seen of an entry: kind, mode, time, content, and the first path with its inode.
pub(crate) type Picture = BTreeMap<Vec<u8>, (char, u32, i64, Hash, Vec<u8>)>;

pub(crate) fn picture(roots: &[impl AsRef<Path>]) -> Picture {
    let mut all = Picture::new();
    let mut inodes = HashMap::new();
    for (at, root) in roots.iter().enumerate() {
        look(root.as_ref(), at.to_string().into_bytes(), &mut all, &mut inodes);
    }
    all
}

fn look(path: &Path, name: Vec<u8>, all: &mut Picture, inodes: &mut HashMap<u64, Vec<u8>>) {
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let mut first = Vec::new();
    let (letter, content) = if kind.is_dir() {
        let mut entries: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        entries.sort();
        for entry in entries {
            look(&path.join(&entry), [&name[..], b"/", entry.as_bytes()].concat(), all, inodes);
        }
        ('d', Hash::default())
    } else if kind.is_symlink() {
        ('l', Hash::of(fs::read_link(path).unwrap().as_os_str().as_bytes()))
    } else if kind.is_file() {
        if meta.nlink() > 1 {
            first = inodes.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
        }
        ('f', Hash::of(&fs::read(path).unwrap()))
    } else if std::os::unix::fs::FileTypeExt::is_fifo(&kind) {
        ('p', Hash::default())
    } else {
        return;
    };
    let mtime = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
    all.insert(name, (letter, meta.mode() & 0o7777, mtime, content, first));
}

/// Only what differs.
#[track_caller]
pub(crate) fn assert_same(left: &Picture, right: &Picture) {
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let different: Vec<_> = names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| (burstflare_ports::wire::path::encode(name), left.get(name), right.get(name)))
        .collect();
    assert!(different.is_empty(), "{different:#?}");
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

pub(crate) fn set_time(path: &Path, mtime_ns: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub(crate) fn mtime(path: &Path) -> i64 {
    let meta = path.symlink_metadata().unwrap();
    meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
}

pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

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

pub(crate) fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

/// A clock that is an hour ahead: nothing is as young as the scan.
pub(crate) fn later() -> i64 {
    now() + 3_600_000_000_000
}

fn some_tree(place: &Place) {
    for folder in ["src", "src/deep", "bin"] {
        fs::create_dir_all(place.at(folder)).unwrap();
        for number in 0..20 {
            let content =
                noise(number + folder.len() as u64 * 100, 500 + usize::try_from(number).unwrap() * 700);
            fs::write(place.at(folder).join(format!("file {number}")), content).unwrap();
        }
    }
    fs::write(place.at("large"), noise(1, 6 << 20)).unwrap();
    fs::hard_link(place.at("large"), place.at("src/large too")).unwrap();
    fs::File::create(place.at("sparse")).unwrap().set_len(5 << 20).unwrap();
    fs::write(place.roots[1].join("profile"), "").unwrap();
    symlink("src", place.at("link")).unwrap();
}

#[test]
fn an_unchanged_tree_is_not_read() {
    let place = Place::new();
    some_tree(&place);
    let mut store = Store::default();
    let first = store.snapshot(&place.names(), b"", Some(later()));
    assert_eq!((first.scanned.reused_files, first.scanned.read_files), (0, 63));
    let received = store.received;
    let second = store.snapshot(&place.names(), &first.manifest, Some(later()));
    let Scanned { files, read_files, read_bytes, reused_files, new_chunks, ref digest, .. } = second.scanned;
    assert_eq!((files, read_files, read_bytes, reused_files, new_chunks), (64, 0, 0, 63, 0));
    assert_eq!(*digest, first.scanned.digest);
    assert_eq!((second.packed.packs, store.received), (0, received));
    // One file more: the rest stays unread, and what is sent is that file.
    fs::write(place.at("src/deep/file 7"), noise(77, 3000)).unwrap();
    let third = store.snapshot(&place.names(), &second.manifest, None);
    assert_eq!((third.scanned.read_files, third.scanned.read_bytes, third.scanned.new_chunks), (1, 3000, 1));
    assert!(store.received - received < 3100);
    // On another disk inodes and times mean nothing: everything is read, nothing is sent.
    let taken = measure::scan(&place.names(), &third.manifest[..], "disk 2", None).unwrap();
    let Scanned { read_files, reused_files, new_chunks, .. } = taken.scanned;
    assert_eq!((read_files, reused_files, new_chunks), (63, 0, 0));
    let taken = measure::scan(&place.names(), &third.manifest[..], "", None).unwrap();
    assert_eq!(taken.scanned.read_files, 63);
}

#[test]
fn what_moves_or_is_copied_is_not_sent_again() {
    let place = Place::new();
    some_tree(&place);
    let mut store = Store::default();
    let first = store.snapshot(&place.names(), b"", Some(later()));
    let received = store.received;
    fs::rename(place.at("src"), place.roots[1].join("moved")).unwrap();
    fs::copy(place.at("large"), place.at("copy")).unwrap();
    let second = store.snapshot(&place.names(), &first.manifest, None);
    assert_eq!((second.scanned.new_chunks, store.received), (0, received));
    // Bytes in front of a large file: its later chunks are the same.
    let shifted = [b"in front", &noise(1, 6 << 20)[..]].concat();
    fs::write(place.at("copy"), shifted).unwrap();
    let third = store.snapshot(&place.names(), &second.manifest, None);
    assert_eq!(third.scanned.new_chunks, 1, "{:?}", third.scanned);
    let before = picture(&place.roots);
    place.set_aside();
    measure::restore(&place.names(), &store.stream(&third.manifest)[..]).unwrap();
    assert_same(&picture(&place.roots), &before);
}

/// A manifest whose entries were changed, made as the agent makes them.
pub(crate) fn forge(
    manifest: &[u8],
    change: impl FnOnce(&mut Vec<tree::Entry>, &mut manifest::Tables),
) -> Vec<u8> {
    let (mut tables, section) = manifest::decode(manifest).unwrap();
    let plain = zstd::decode_all(&section[..]).unwrap();
    let mut reader = tree::Reader::new(&plain[..], std::sync::Arc::new(tables.clone())).unwrap();
    let roots = reader.roots().to_vec();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        entries.push(entry);
    }
    change(&mut entries, &mut tables);
    let mut encoder = tree::Encoder::new(&roots);
    let mut digest = burstflare_ports::wire::tree::Digest::default();
    for entry in &entries {
        encoder.add(entry);
        entry.digest(&mut digest);
    }
    let plain = encoder.take();
    let section = zstd::encode_all(&plain[..], 1).unwrap();
    let summary = digest.summary();
    tables.header.entries = summary.files;
    tables.header.bytes = summary.bytes;
    tables.header.digest = summary.digest.parse().unwrap();
    tables.header.tree_plain = plain.len() as u64;
    tables.header.tree_stored = section.len() as u64;
    manifest::encode(&tables, &section)
}

/// A write in the same tick of the file system's clock as the one before leaves the same times.
#[test]
fn a_write_within_the_tick_of_a_scan_is_seen() {
    let place = Place::new();
    let file = place.at("racy");
    fs::write(&file, "before").unwrap();
    let mut store = Store::default();
    let written = file.metadata().unwrap();
    let ctime = written.ctime() * 1_000_000_000 + written.ctime_nsec();
    for (began, seen) in [(ctime, true), (ctime + 40_000_000, true), (ctime + 3_000_000_000, false)] {
        fs::write(&file, "before").unwrap();
        let first = store.snapshot(&place.names(), b"", Some(began));
        fs::write(&file, "behind").unwrap();
        // As if the tick had not moved on: the parent knows the very state that the file has now.
        let now = file.metadata().unwrap();
        let ctime_now = now.ctime() * 1_000_000_000 + now.ctime_nsec();
        let forged = forge(&first.manifest, |entries, tables| {
            let entry = entries.iter_mut().find(|entry| entry.path.ends_with(b"racy")).unwrap();
            entry.mtime_ns = mtime(&file);
            let tree::Body::File(known) = &mut entry.body else { panic!("a file") };
            known.ctime_ns = ctime_now;
            tables.header.began_ns = began - ctime + ctime_now;
        });
        let second = store.snapshot(&place.names(), &forged, None);
        assert_eq!(second.scanned.read_files, u64::from(seen), "began {} after", began - ctime);
    }
    // A clock that went back: what is younger than the scan is not trusted.
    let first = store.snapshot(&place.names(), b"", Some(ctime - 3_600_000_000_000));
    assert_eq!(store.snapshot(&place.names(), &first.manifest, None).scanned.read_files, 1);
}

#[test]
fn what_changes_between_scan_and_packs_is_as_it_is_when_it_is_packed() {
    let place = Place::new();
    some_tree(&place);
    for name in ["one", "two", "three"] {
        fs::write(place.at(name), noise(9, 2000)).unwrap();
    }
    fs::write(place.at("first"), "linked").unwrap();
    fs::hard_link(place.at("first"), place.at("second")).unwrap();
    fs::hard_link(place.at("first"), place.at("third")).unwrap();
    let taken = measure::scan(&place.names(), &b""[..], "disk 1", None).unwrap();
    fs::write(place.at("large"), noise(2, 5 << 20)).unwrap();
    fs::remove_file(place.at("one")).unwrap();
    fs::remove_dir_all(place.at("bin")).unwrap();
    fs::write(place.at("bin"), "no folder any more").unwrap();
    fs::remove_file(place.at("first")).unwrap();
    fs::write(place.at("first"), "another").unwrap();
    let mut store = Store::default();
    let mut stream = Vec::new();
    let packed = taken
        .pack(&HashMap::new(), |piece| {
            stream.extend_from_slice(&piece);
            Ok(())
        })
        .unwrap();
    // One, twenty in the folder, and the large one; the linked file's two other names are read, too.
    assert!(packed.changed.files >= 22 && packed.changed.torn == 0, "{:?}", packed.changed);
    let (manifest, _) = store.take(&stream);
    let now = picture(&place.roots);
    place.set_aside();
    measure::restore(&place.names(), &store.stream(&manifest)[..]).unwrap();
    let restored = picture(&place.roots);
    for (path, what) in &restored {
        // The folder was one when the tree was looked at.
        if path != b"0/bin" && path != b"0" {
            assert_eq!(now.get(path), Some(what), "{}", String::from_utf8_lossy(path));
        }
    }
    assert_eq!(restored[&b"0/third"[..]].4, b"0/second", "still the same file");
    assert_eq!(restored[&b"0/first"[..]].4, b"", "a file of its own");
    assert!(!restored.contains_key(&b"0/one"[..]));
}

#[test]
fn snapshots_of_a_busy_tree_are_whole() {
    let place = Place::new();
    some_tree(&place);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut store, mut taken) = (Store::default(), Vec::new());
    // A test that fails must not leave the writers writing.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let going = || !stop.load(std::sync::atomic::Ordering::Relaxed) && std::time::Instant::now() < deadline;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while going() {
                turn += 1;
                fs::write(place.at("large"), noise(turn, 3_000_000)).unwrap();
                fs::write(place.at("src/file 1"), noise(turn, usize::try_from(turn % 5).unwrap() * 1000))
                    .unwrap();
            }
        });
        scope.spawn(|| {
            while going() {
                fs::create_dir_all(place.at("come/and/go")).unwrap();
                fs::write(place.at("come/and/go/file"), "x").unwrap();
                fs::hard_link(place.at("come/and/go/file"), place.at("come/other")).unwrap();
                fs::remove_dir_all(place.at("come")).unwrap();
                fs::write(place.at("come"), "a file").unwrap();
                fs::remove_file(place.at("come")).unwrap();
            }
        });
        for _ in 0..15 {
            let parent = taken.last().map_or(&b""[..], |manifest: &Vec<u8>| manifest);
            let next = store.snapshot(&place.names(), parent, None);
            taken.push(next.manifest);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let calm = store.snapshot(&place.names(), &taken[14], None);
    let before = picture(&place.roots);
    place.set_aside();
    for manifest in &taken {
        measure::restore(&place.names(), &store.stream(manifest)[..]).unwrap();
    }
    measure::restore(&place.names(), &store.stream(&calm.manifest)[..]).unwrap();
    assert_same(&picture(&place.roots), &before);
}

/// While a page waits to be written back, more writes through a mapping do not touch the file's times. A scan has
/// it written back before it reads, so that the next one sees that something came after.
#[test]
fn writes_through_a_mapping_are_seen() {
    let place = Place::new();
    let path = place.at("mapped");
    fs::write(&path, noise(1, 8192)).unwrap();
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    if !matches!(rustix::fs::statfs(&path).unwrap().f_type, EXT | XFS) {
        eprintln!("skipped: this file system may know no times of mappings");
        return;
    }
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: a new mapping of a file that stays as long as it is.
    let map = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
    };
    assert_ne!(map, libc::MAP_FAILED);
    // SAFETY: within the mapping.
    let write = |byte: u8| unsafe { map.cast::<u8>().write_volatile(byte) };
    write(1);
    let mut store = Store::default();
    // Nothing is as young as this scan, so only times tell.
    let first = store.snapshot(&place.names(), b"", Some(later()));
    write(2);
    let second = store.snapshot(&place.names(), &first.manifest, Some(later()));
    assert_eq!(second.scanned.read_files, 1, "the second write was missed");
    let third = store.snapshot(&place.names(), &second.manifest, None);
    assert_eq!(third.scanned.read_files, 0);
    // SAFETY: mapped above, with this length.
    unsafe { libc::munmap(map, 8192) };
}
