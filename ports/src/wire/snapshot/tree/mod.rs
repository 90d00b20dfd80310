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
//! [`super::MAX_NAME`] bytes, neither empty nor `.` nor `..` and without NUL; every entry but a root lies in a folder of
//! the tree. [`Reader`] refuses everything else, and at the end a tree that is not what the header says.

mod read;
mod write;

pub use read::Reader;
pub use write::Encoder;

use super::{Hash, MAX_HASHED_HOLES};
use crate::wire::path;
use crate::wire::tree::{Digest, Kind};

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
