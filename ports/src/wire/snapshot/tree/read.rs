//! Reading the tree section, whoever made it.

use std::io::Read;
use std::sync::Arc;

use super::super::manifest::{Header, Tables};
use super::super::numbers::{self, NoNumber};
use super::super::{
    Chunk, FORMAT, Hash, MAX_DEPTH, MAX_EXTENTS, MAX_NAME, MAX_PATH, MAX_ROOTS, MAX_TARGET, MAX_TREE_EXTENTS,
    MAX_TREE_PLAIN, SnapshotError, corrupt,
};
use super::{
    Body, Entry, Extent, FILE, FIRST, FOLDER, File, LINK, MODES, NAME, PIPE, Previous, hash_is_written,
    holey_hash,
};
use crate::wire::path;
use crate::wire::tree::{Digest, Summary};

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
    /// Parts of all files so far.
    extents: usize,
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
            extents: 0,
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
        Summary { format: FORMAT, ..self.digest.summary() }
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
                self.extents += file.extents.len();
                if self.extents > MAX_TREE_EXTENTS {
                    return corrupt("the files have too many parts together");
                }
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
