//! Trees to be snapshotted, and what an edge keeps of them: both in this process.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use burstflare_agent::snapshot::measure;
use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::stream::{self, Order, Part};
use burstflare_ports::wire::snapshot::{Hash, Have, Index, Packed, Scanned, manifest, tree};
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

pub(crate) fn set(path: &Path, mode: u32) {
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

pub(crate) fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

/// A clock that is an hour ahead: nothing is as young as the scan.
pub(crate) fn later() -> i64 {
    now() + 3_600_000_000_000
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
