//! The tree section of a manifest, decompressed: roots, then entries sorted by path as bytes, parents before children.
//!
//! Head: the number of roots, and each root (length, absolute path in UTF-8). An entry:
//!
//! | what | how |
//! |---|---|
//! | path, without leading slash | bytes shared with the previous path, length and bytes of what follows them |
//! | type | one byte: 0 folder, 1 file, 2 symbolic link, 3 pipe, 4 one more name of a file, 9 file with more names to come |
//! | not for type 4: mode, mtime | number (0 to 0o1777); nanoseconds, signed, as difference to the previous entry's |
//! | link | length and bytes of the target |
//! | one more name (hard link) | number of the group; files of type 9 open groups 0, 1, … |
//! | file | size; ctime (difference to the mtime, signed); inode (difference to the previous file's, signed); number of extents; extents; hash |
//! | extent | 0 and a length: a hole; 1: the next chunk that no extent has named yet; n: chunk n - 2, named before |
//! | hash | 32 bytes, only where it does not follow from the rest: not for an empty file (BLAKE3 of nothing), for a file of one chunk (the chunk's), nor for one with more than [`MAX_HASHED_HOLES`] bytes of holes ([`holey_hash`]) |
//!
//! Differences wrap. Holes are not empty and no two of them meet. Modes have no set-id bits, names are at most
//! [`MAX_NAME`] bytes, neither empty nor `.` nor `..` and without NUL; every entry but a root lies in a folder of
//! the tree. [`Reader`] refuses everything else, and at the end a tree that is not what the header says.

use std::io::Read;
use std::sync::Arc;

use super::manifest::{Header, Tables};
use super::numbers::{self, NoNumber};
use super::{
    Chunk, Hash, MAX_DEPTH, MAX_EXTENTS, MAX_HASHED_HOLES, MAX_NAME, MAX_PATH, MAX_ROOTS, MAX_TARGET,
    MAX_TREE_PLAIN, SnapshotError, corrupt,
};
use crate::wire::path;
use crate::wire::tree::{Digest, Kind, Summary};

const FOLDER: u8 = 0;
const FILE: u8 = 1;
const LINK: u8 = 2;
const PIPE: u8 = 3;
const NAME: u8 = 4;
const FIRST: u8 = 9;
const MODES: u64 = 0o1777;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A chunk, by its number in the manifest's table.
    Chunk(u32),
    /// Zeros that take no space.
    Hole(u64),
}

/// What is known of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Bytes, holes included.
    pub size: u64,
    /// As it stands in the tree's digest.
    pub hash: Hash,
    /// Chunks and holes, from the first byte to the last.
    pub extents: Vec<Extent>,
    /// The group that this file opens, where more names of it follow.
    pub group: Option<u32>,
    /// Status change time as the machine saw it, nanoseconds since the epoch.
    pub ctime_ns: i64,
    /// Inode as the machine saw it.
    pub inode: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Folder.
    Folder,
    /// Regular file.
    File(File),
    /// Symbolic link to this target.
    Link(Vec<u8>),
    /// Named pipe.
    Pipe,
    /// One more name of an earlier file; mode and time are that file's.
    Name {
        /// Number of the group.
        group: u32,
        /// The file's size.
        size: u64,
        /// The file's hash.
        hash: Hash,
    },
}

/// An entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Without leading slash.
    pub path: Vec<u8>,
    /// Permission bits, 0 to 0o1777.
    pub mode: u32,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// The rest.
    pub body: Body,
}

impl Entry {
    /// The type that format 1 knows.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.body {
            Body::Folder => Kind::Folder,
            Body::File(_) | Body::Name { .. } => Kind::File,
            Body::Link(_) => Kind::Link,
            Body::Pipe => Kind::Pipe,
        }
    }

    /// Bytes of a file, by whatever name.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match &self.body {
            Body::File(file) => file.size,
            Body::Name { size, .. } => *size,
            _ => 0,
        }
    }

    /// Hash of a file, by whatever name.
    #[must_use]
    pub const fn hash(&self) -> Option<Hash> {
        match &self.body {
            Body::File(file) => Some(file.hash),
            Body::Name { hash, .. } => Some(*hash),
            _ => None,
        }
    }

    /// Adds the entry to the digest of its tree.
    pub fn digest(&self, digest: &mut Digest) {
        let path = path::encoded(&self.path);
        match &self.body {
            Body::Link(target) => {
                digest.add_parts(&path, Kind::Link, self.mode, &path::encoded(target), 0);
            }
            _ => match self.hash() {
                Some(Hash(hash)) => {
                    let hash = blake3::Hash::from_bytes(hash).to_hex();
                    digest.add_parts(&path, Kind::File, self.mode, hash.as_str(), self.size());
                }
                None => digest.add_parts(&path, self.kind(), self.mode, "", 0),
            },
        }
    }
}

/// The hash of a file whose holes are too large to be hashed: of its size and extents, for each a 0 and the hole's
/// length or a 1 and the chunk's hash. Another key than plain BLAKE3, so no file's bytes have it.
#[must_use]
pub fn holey_hash(size: u64, extents: impl IntoIterator<Item = Result<Hash, u64>>) -> Hash {
    let mut hasher =
        blake3::Hasher::new_derive_key("burstflare snapshot: extents of a file with large holes");
    hasher.update(&size.to_le_bytes());
    for extent in extents {
        match extent {
            Ok(chunk) => hasher.update(&[1]).update(&chunk.0),
            Err(hole) => hasher.update(&[0]).update(&hole.to_le_bytes()),
        };
    }
    hasher.finalize().into()
}

/// Whether a file of these extents has its hash beside them.
fn hash_is_written(extents: &[Extent]) -> bool {
    !matches!(extents, [] | [Extent::Chunk(_)]) && holes(extents) <= MAX_HASHED_HOLES
}

fn holes(extents: &[Extent]) -> u64 {
    extents.iter().fold(0, |sum: u64, extent| match extent {
        Extent::Hole(length) => sum.saturating_add(*length),
        Extent::Chunk(_) => sum,
    })
}

/// Differences are to the entry before.
#[derive(Debug, Default)]
struct Previous {
    path: Vec<u8>,
    mtime_ns: i64,
    inode: u64,
    /// Chunks named so far.
    fresh: u32,
}

/// Writes the section. What it is given has to be what [`Reader`] accepts.
#[derive(Debug)]
pub struct Encoder {
    out: Vec<u8>,
    previous: Previous,
}

impl Encoder {
    /// Begins with the roots.
    #[must_use]
    pub fn new(roots: &[String]) -> Self {
        let mut out = Vec::new();
        numbers::put(&mut out, roots.len() as u64);
        for root in roots {
            numbers::put(&mut out, root.len() as u64);
            out.extend_from_slice(root.as_bytes());
        }
        Self { out, previous: Previous::default() }
    }

    /// The next entry.
    pub fn add(&mut self, entry: &Entry) {
        let shared =
            self.previous.path.iter().zip(&entry.path).take_while(|(one, other)| one == other).count();
        let suffix = entry.path.get(shared..).unwrap_or_default();
        numbers::put(&mut self.out, shared as u64);
        numbers::put(&mut self.out, suffix.len() as u64);
        self.out.extend_from_slice(suffix);
        self.previous.path.truncate(shared);
        self.previous.path.extend_from_slice(suffix);
        self.out.push(match &entry.body {
            Body::Folder => FOLDER,
            Body::File(File { group: None, .. }) => FILE,
            Body::File(_) => FIRST,
            Body::Link(_) => LINK,
            Body::Pipe => PIPE,
            Body::Name { group, .. } => {
                self.out.push(NAME);
                numbers::put(&mut self.out, u64::from(*group));
                return;
            }
        });
        numbers::put(&mut self.out, u64::from(entry.mode));
        numbers::put_signed(&mut self.out, entry.mtime_ns.wrapping_sub(self.previous.mtime_ns));
        self.previous.mtime_ns = entry.mtime_ns;
        match &entry.body {
            Body::Link(target) => {
                numbers::put(&mut self.out, target.len() as u64);
                self.out.extend_from_slice(target);
            }
            Body::File(file) => self.file(file, entry.mtime_ns),
            Body::Folder | Body::Pipe | Body::Name { .. } => {}
        }
    }

    fn file(&mut self, file: &File, mtime_ns: i64) {
        let Self { out, previous } = self;
        numbers::put(out, file.size);
        numbers::put_signed(out, file.ctime_ns.wrapping_sub(mtime_ns));
        numbers::put_signed(out, file.inode.wrapping_sub(previous.inode).cast_signed());
        previous.inode = file.inode;
        numbers::put(out, file.extents.len() as u64);
        for extent in &file.extents {
            match extent {
                Extent::Hole(length) => {
                    numbers::put(out, 0);
                    numbers::put(out, *length);
                }
                Extent::Chunk(chunk) if *chunk == previous.fresh => {
                    numbers::put(out, 1);
                    previous.fresh += 1;
                }
                Extent::Chunk(chunk) => numbers::put(out, u64::from(*chunk) + 2),
            }
        }
        if hash_is_written(&file.extents) {
            out.extend_from_slice(&file.hash.0);
        }
    }

    /// The bytes since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// How many bytes there are since the last time.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.out.len()
    }
}

/// Reads the section entry by entry. It holds one entry, and a few bytes for each group of hard links.
///
/// After an error it is of no use.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    tables: Arc<Tables>,
    buffer: Vec<u8>,
    /// What of the buffer is used up.
    used: usize,
    /// Bytes of the section that were not read yet.
    unread: u64,
    roots: Vec<String>,
    /// Roots whose entry has come.
    rooted: usize,
    entries: u64,
    previous: Previous,
    /// Lengths of those beginnings of the previous path that are folders of the tree.
    folders: Vec<usize>,
    groups: Vec<Group>,
    digest: Digest,
    ended: bool,
}

#[derive(Debug)]
struct Group {
    mode: u32,
    mtime_ns: i64,
    size: u64,
    hash: Hash,
}

/// Why an entry could not be read.
enum Stop {
    /// It goes on in bytes that are not there yet.
    Short,
    Wrong(SnapshotError),
}

impl From<NoNumber> for Stop {
    fn from(number: NoNumber) -> Self {
        match number {
            NoNumber::Short => Self::Short,
            NoNumber::Malformed => Self::Wrong(SnapshotError::Corrupt("a number is malformed".into())),
        }
    }
}

impl From<SnapshotError> for Stop {
    fn from(error: SnapshotError) -> Self {
        Self::Wrong(error)
    }
}

fn wrong<T>(what: &str) -> Result<T, Stop> {
    Err(Stop::Wrong(SnapshotError::Corrupt(what.into())))
}

fn bytes<'b>(rest: &mut &'b [u8], length: u64, limit: usize, what: &str) -> Result<&'b [u8], Stop> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return wrong(what);
    }
    let Some((head, tail)) = rest.split_at_checked(length) else { return Err(Stop::Short) };
    *rest = tail;
    Ok(head)
}

impl<R: Read> Reader<R> {
    /// Reads the head. `source` yields the decompressed section; an error of it is damage.
    ///
    /// # Errors
    /// On damage.
    pub fn new(source: R, tables: Arc<Tables>) -> Result<Self, SnapshotError> {
        let mut reader = Self {
            source,
            buffer: Vec::new(),
            used: 0,
            unread: tables.header.tree_plain.min(MAX_TREE_PLAIN),
            tables,
            roots: Vec::new(),
            rooted: 0,
            entries: 0,
            previous: Previous::default(),
            folders: Vec::new(),
            groups: Vec::new(),
            digest: Digest::default(),
            ended: false,
        };
        reader.roots = reader.parse(|_, rest| head(rest))?;
        Ok(reader)
    }

    /// The roots, absolute.
    #[must_use]
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// The next entry; `None` once the whole tree was read and is what the header says.
    ///
    /// # Errors
    /// On damage.
    #[expect(clippy::should_implement_trait, reason = "an iterator would have to hide that errors are final")]
    pub fn next(&mut self) -> Result<Option<Entry>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        if self.entries == self.tables.header.entries {
            self.end()?;
            self.ended = true;
            return Ok(None);
        }
        let entry = self.parse(Self::entry)?;
        self.accept(&entry)?;
        Ok(Some(entry))
    }

    /// The summary of what was read.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary { format: super::FORMAT, ..self.digest.summary() }
    }

    /// Runs a parser on what is there, and again with more where that was not enough.
    fn parse<T>(
        &mut self,
        parser: impl Fn(&mut Self, &mut &[u8]) -> Result<T, Stop>,
    ) -> Result<T, SnapshotError> {
        loop {
            let buffer = std::mem::take(&mut self.buffer);
            let mut rest = buffer.get(self.used..).unwrap_or_default();
            let parsed = parser(self, &mut rest);
            let used = buffer.len() - rest.len();
            self.buffer = buffer;
            match parsed {
                Ok(value) => {
                    self.used = used;
                    return Ok(value);
                }
                Err(Stop::Wrong(error)) => return Err(error),
                Err(Stop::Short) => self.fill()?,
            }
        }
    }

    /// Reads at least as much again as is there, so that long entries are not parsed over and over.
    fn fill(&mut self) -> Result<(), SnapshotError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let wanted = (self.buffer.len() as u64).max(64 << 10).min(self.unread);
        let read = self.source.by_ref().take(wanted).read_to_end(&mut self.buffer);
        match read {
            Ok(0) => corrupt("the tree is cut off"),
            Ok(length) => {
                self.unread -= length as u64;
                Ok(())
            }
            Err(error) => corrupt(format!("the tree cannot be decompressed: {error}")),
        }
    }

    fn entry(&mut self, rest: &mut &[u8]) -> Result<Entry, Stop> {
        let path = self.path(rest)?;
        let Some((&tag, tail)) = rest.split_first() else { return Err(Stop::Short) };
        *rest = tail;
        if tag == NAME {
            let group = numbers::take(rest)?;
            let found = usize::try_from(group).ok().and_then(|at| self.groups.get(at));
            let (Some(first), Ok(group)) = (found, u32::try_from(group)) else {
                return wrong("a hard link leads nowhere");
            };
            let body = Body::Name { group, size: first.size, hash: first.hash };
            return Ok(Entry { path, mode: first.mode, mtime_ns: first.mtime_ns, body });
        }
        let mode = numbers::take(rest)?;
        if mode & !MODES != 0 {
            return wrong("a mode is out of bounds");
        }
        let mode = u32::try_from(mode).unwrap_or(0);
        let mtime_ns = self.previous.mtime_ns.wrapping_add(numbers::take_signed(rest)?);
        let body = match tag {
            FOLDER => Body::Folder,
            PIPE => Body::Pipe,
            LINK => {
                let length = numbers::take(rest)?;
                let target = bytes(rest, length, MAX_TARGET, "the target of a link is too long")?;
                if target.is_empty() || target.contains(&0) {
                    return wrong("the target of a link is malformed");
                }
                Body::Link(target.to_vec())
            }
            FILE | FIRST => Body::File(self.file(rest, mtime_ns, tag == FIRST)?),
            _ => return wrong("an entry is of no known type"),
        };
        Ok(Entry { path, mode, mtime_ns, body })
    }

    fn path(&self, rest: &mut &[u8]) -> Result<Vec<u8>, Stop> {
        let shared = usize::try_from(numbers::take(rest)?).unwrap_or(usize::MAX);
        let length = numbers::take(rest)?;
        let suffix = bytes(rest, length, MAX_PATH, "a path is too long")?;
        let before = &self.previous.path;
        let Some((shared, next)) = before.split_at_checked(shared) else {
            return wrong("a path shares more than there is");
        };
        // Sorted, and nothing that could have been shared is repeated.
        if suffix.is_empty() || suffix.first() <= next.first() {
            return wrong("entries are out of order");
        }
        let path = [shared, suffix].concat();
        if path.len() > MAX_PATH {
            return wrong("a path is too long");
        }
        Ok(path)
    }

    fn file(&self, rest: &mut &[u8], mtime_ns: i64, first: bool) -> Result<File, Stop> {
        let size = numbers::take(rest)?;
        let ctime_ns = mtime_ns.wrapping_add(numbers::take_signed(rest)?);
        let inode = self.previous.inode.wrapping_add(numbers::take_signed(rest)?.cast_unsigned());
        let count = usize::try_from(numbers::take(rest)?).unwrap_or(usize::MAX);
        if count > MAX_EXTENTS {
            return wrong("a file has too many extents");
        }
        // Each takes a byte at least.
        let mut extents = Vec::with_capacity(count.min(rest.len()));
        let (mut fresh, mut sum) = (self.previous.fresh, 0u64);
        for _ in 0..count {
            let number = numbers::take(rest)?;
            let extent = match number {
                0 => Extent::Hole(numbers::take(rest)?),
                1 => Extent::Chunk(fresh),
                _ => Extent::Chunk(u32::try_from(number - 2).unwrap_or(u32::MAX)),
            };
            let length = match extent {
                Extent::Hole(0) => return wrong("a hole is empty"),
                Extent::Hole(_) if matches!(extents.last(), Some(Extent::Hole(_))) => {
                    return wrong("two holes meet");
                }
                Extent::Hole(length) => length,
                Extent::Chunk(chunk) => {
                    // The next one has no other form than 1.
                    let known = self.chunk(chunk).filter(|_| chunk < fresh || number == 1);
                    let Some(known) = known else { return wrong("a file names a chunk that is not there") };
                    u64::from(known.plain)
                }
            };
            if extent == Extent::Chunk(fresh) {
                fresh += 1;
            }
            let Some(total) = sum.checked_add(length) else { return wrong("a file is too large") };
            sum = total;
            extents.push(extent);
        }
        if sum != size || i64::try_from(size).is_err() {
            return wrong("a file's size is not that of its parts");
        }
        let hash = self.hash(rest, size, &extents)?;
        let group = first.then(|| u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
        Ok(File { size, hash, extents, group, ctime_ns, inode })
    }

    fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.tables.chunks.get(number as usize)
    }

    fn hash(&self, rest: &mut &[u8], size: u64, extents: &[Extent]) -> Result<Hash, Stop> {
        let of_chunk = |number: u32| self.chunk(number).map_or(Hash::default(), |chunk| chunk.hash);
        Ok(match extents {
            [] => Hash::of(b""),
            [Extent::Chunk(number)] => of_chunk(*number),
            _ if hash_is_written(extents) => {
                let Some((hash, tail)) = rest.split_first_chunk::<32>() else { return Err(Stop::Short) };
                *rest = tail;
                Hash(*hash)
            }
            _ => holey_hash(
                size,
                extents.iter().map(|extent| match extent {
                    Extent::Chunk(number) => Ok(of_chunk(*number)),
                    Extent::Hole(length) => Err(*length),
                }),
            ),
        })
    }

    /// Checks where an entry lies, and remembers what the next ones need.
    fn accept(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        let path = &entry.path;
        let shared = self.previous.path.iter().zip(path).take_while(|(one, other)| one == other).count();
        self.folders.retain(|length| *length <= shared);
        if self.roots.iter().any(|root| root.as_bytes().get(1..) == Some(path)) {
            if entry.body != Body::Folder {
                return corrupt("a root is not a folder");
            }
            self.rooted += 1;
        } else {
            let slash = path.iter().rposition(|byte| *byte == b'/');
            let inside = slash.is_some_and(|at| self.folders.binary_search(&at).is_ok());
            if !inside {
                return corrupt(format!("`{}` has no folder to lie in", path::encode(path)));
            }
            if !is_name(path.get(slash.map_or(0, |at| at + 1)..).unwrap_or_default())
                || path.iter().filter(|byte| **byte == b'/').count() >= MAX_DEPTH
            {
                return corrupt(format!("`{}` cannot be a name", path::encode(path)));
            }
        }
        match &entry.body {
            Body::Folder => self.folders.push(path.len()),
            Body::File(file) => {
                self.previous.inode = file.inode;
                for extent in &file.extents {
                    if *extent == Extent::Chunk(self.previous.fresh) {
                        self.previous.fresh += 1;
                    }
                }
                if file.group.is_some() {
                    self.groups.push(Group {
                        mode: entry.mode,
                        mtime_ns: entry.mtime_ns,
                        size: file.size,
                        hash: file.hash,
                    });
                }
            }
            Body::Link(_) | Body::Pipe | Body::Name { .. } => {}
        }
        if !matches!(entry.body, Body::Name { .. }) {
            self.previous.mtime_ns = entry.mtime_ns;
        }
        self.previous.path.clone_from(path);
        self.entries += 1;
        entry.digest(&mut self.digest);
        Ok(())
    }

    fn end(&mut self) -> Result<(), SnapshotError> {
        let Header { chunks, tree_plain, .. } = self.tables.header;
        let mut more = [0];
        let nothing = self.used == self.buffer.len()
            && self.unread == 0
            && tree_plain <= MAX_TREE_PLAIN
            && matches!(self.source.read(&mut more), Ok(0));
        if !nothing {
            return corrupt("the tree goes on after its end");
        }
        if self.rooted != self.roots.len() || self.previous.fresh != chunks {
            return corrupt("the tree is not complete");
        }
        if self.summary() != self.tables.header.summary() {
            return corrupt("the tree's digest is not the one in the header");
        }
        Ok(())
    }
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME && !name.contains(&0)
}

fn head(rest: &mut &[u8]) -> Result<Vec<String>, Stop> {
    let count = numbers::take(rest)?;
    if !(1..=MAX_ROOTS as u64).contains(&count) {
        return wrong("the number of roots is out of bounds");
    }
    let mut roots: Vec<String> = Vec::new();
    for _ in 0..count {
        let length = numbers::take(rest)?;
        let root = bytes(rest, length, MAX_PATH, "a root's path is too long")?;
        let below = root.strip_prefix(b"/").unwrap_or_default();
        let Ok(root) = String::from_utf8(root.to_vec()) else { return wrong("a root's path is not text") };
        let apart = |other: &String| {
            let within = |one: &str, other: &str| {
                one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            !within(&root, other) && !within(other, &root)
        };
        if !below.split(|byte| *byte == b'/').all(is_name) || !roots.iter().all(apart) {
            return wrong("a root's path is malformed");
        }
        roots.push(root);
    }
    Ok(roots)
}
