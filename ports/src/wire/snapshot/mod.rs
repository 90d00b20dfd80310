//! Format 2 of a captured tree: chunks in packs, and a manifest of the whole tree. Snapshots taken since the agent's
//! capability [`CAPABILITY`].
//!
//! A file's bytes are cut into **chunks**, content-defined, at most [`MAX_CHUNK`] bytes each. A chunk is named by the
//! BLAKE3 of its plain bytes and stored as one zstd frame. Frames lie one after the other in **packs** of at most
//! [`MAX_PACK`] bytes and [`MAX_PACK_CHUNKS`] chunks, named by the BLAKE3 of the whole pack ([`Index`] lists what is
//! in one). The **manifest** ([`manifest`]) names the packs and where each chunk lies, and holds the tree ([`tree`]).
//! Numbers are little endian, variable-length ones LEB128 in their shortest form; hashes are 32 bytes.
//!
//! | call | body → answer |
//! |---|---|
//! | `POST /v1/snapshots/scan?disk=ID` | the parent's manifest or nothing → [`super::frame`]d [`Missing`] records (whole ones in each frame), then [`Scanned`] |
//! | `POST /v1/snapshots/packs?scan=ID` | [`Have`] records, unframed → [`stream`] of new packs, then the manifest, then [`Packed`] |
//! | `PUT /v1/snapshots` | [`stream`] of the manifest, then all packs that it names in its order, then `{}` → [`super::tree::Summary`] |
//!
//! `disk` names the disk that the roots lie on, for as long as nobody but the machine's processes changes it (at
//! most [`MAX_DISK`] bytes, percent-encoded). Where it equals the parent's, files that look untouched are not read.
//! Without it, or with another, everything is read; nothing that the parent holds is sent again in either case.
//! A scan's result is dropped after ten minutes, by the next scan, or when its packs are fetched, to the end or not;
//! fetching a dropped one is 404 `not_found`, and the way on is another scan. A manifest, pack or stream that is damaged is 422 `corrupt`.
//!
//! The tree's digest is [`super::tree::Digest`], so the same tree has the same digest in either format. One thing
//! could not be hashed in reasonable time: a file with more than [`MAX_HASHED_HOLES`] bytes of holes stands in the
//! digest with the BLAKE3 of its list of extents ([`tree::holey_hash`]) instead of its bytes'.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod index;
pub mod manifest;
mod numbers;
mod records;
pub mod stream;
pub mod tree;

pub use index::Index;
pub use records::{Have, Missing};

/// The format's number.
pub const FORMAT: u32 = 2;
/// The agent's capability (in `Ready`) to speak the calls above.
pub const CAPABILITY: &str = "snapshots2";
/// Plain bytes of a chunk.
pub const MAX_CHUNK: u32 = 4 << 20;
/// Bytes of a chunk's frame: one that cannot be compressed grows by a little.
pub const MAX_STORED: u32 = MAX_CHUNK + (64 << 10);
/// Bytes of a pack.
pub const MAX_PACK: u32 = 16 << 20;
/// Chunks in a pack, so that an [`Index`] fits into one frame.
pub const MAX_PACK_CHUNKS: usize = 16_384;
/// Packs of a manifest.
pub const MAX_PACKS: u32 = 1 << 16;
/// Chunks of a manifest.
pub const MAX_CHUNKS: u32 = 1 << 22;
/// Entries of a tree.
pub const MAX_ENTRIES: u64 = 1 << 21;
/// Bytes of the tree section, compressed.
pub const MAX_TREE_STORED: u64 = 256 << 20;
/// And decompressed.
pub const MAX_TREE_PLAIN: u64 = 1 << 30;
/// Bytes of an entry's whole path.
pub const MAX_PATH: usize = 65_535;
/// Bytes of one name in it.
pub const MAX_NAME: usize = 255;
/// Names in it.
pub const MAX_DEPTH: usize = 4000;
/// Bytes of a symbolic link's target.
pub const MAX_TARGET: usize = 4095;
/// Chunks and holes of one file.
pub const MAX_EXTENTS: usize = 1 << 20;
/// Chunks and holes of all files together.
pub const MAX_TREE_EXTENTS: usize = 1 << 23;
/// Bytes of holes in a file up to which the holes' zeros are hashed like data.
pub const MAX_HASHED_HOLES: u64 = 8 << 30;
/// Roots of a tree.
pub const MAX_ROOTS: usize = 16;
/// Bytes of a disk's name.
pub const MAX_DISK: usize = 200;
/// Paths that [`Changed`] names.
pub const MAX_CHANGED: usize = 64;

/// Media type of a manifest at rest.
pub const MANIFEST_TYPE: &str = "application/vnd.burstflare.manifest";

/// A BLAKE3 digest: the name of a chunk or of a pack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no [`struct@Hash`]: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a digest of 64 hexadecimal digits")]
pub struct InvalidHash;

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| InvalidHash)?;
        // Names have one spelling.
        if hash.to_hex().as_str() == text { Ok(hash.into()) } else { Err(InvalidHash) }
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A pack, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// BLAKE3 of all its bytes.
    pub hash: Hash,
    /// Its bytes: 1 to [`MAX_PACK`].
    pub length: u32,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// BLAKE3 of its plain bytes.
    pub hash: Hash,
    /// Number of its pack in the manifest's table.
    pub pack: u32,
    /// Where its frame begins in the pack.
    pub offset: u32,
    /// Bytes of its frame: 1 to [`MAX_STORED`].
    pub stored: u32,
    /// Plain bytes: 1 to [`MAX_CHUNK`].
    pub plain: u32,
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Damaged, cut off, or made by somebody who does not keep to the format.
    #[error("{0}")]
    Corrupt(String),
    /// Of a later format than this build reads.
    #[error("format {0} is newer than this build reads (up to {FORMAT})")]
    Unsupported(u32),
}

/// `Err` with a reason.
pub(crate) fn corrupt<T>(what: impl Into<String>) -> Result<T, SnapshotError> {
    Err(SnapshotError::Corrupt(what.into()))
}

/// Trailer of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scanned {
    /// Names the kept result; at most 64 letters, digits and dashes.
    pub scan: String,
    /// Entries of all kinds, the roots included.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of all files together, as [`super::tree::Summary`] counts them.
    pub bytes: u64,
    /// Digest of the tree. (Times and hard links are not in it.)
    #[serde(default)]
    pub digest: String,
    /// Files that were not read because they look as they did to the parent.
    pub reused_files: u64,
    /// Files that were read.
    pub read_files: u64,
    /// Bytes that were read from them.
    pub read_bytes: u64,
    /// [`Missing`] records.
    pub new_chunks: u64,
    /// Plain bytes of those.
    pub new_bytes: u64,
    /// What changed while it was read.
    #[serde(default)]
    pub changed: Changed,
}

/// Trailer of the packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Digest, entries and bytes of the tree; `archive_blake3` is the manifest's.
    pub summary: super::tree::Summary,
    /// Packs sent.
    pub packs: u64,
    /// Bytes of those.
    pub stored_bytes: u64,
    /// What changed between the scan and the packing, or while it was read.
    #[serde(default)]
    pub changed: Changed,
}

/// Files that somebody wrote to while they were read. What is kept of each is what it held at some moment, except
/// for `torn` ones: they changed during every attempt, so that their parts may be of different moments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changed {
    /// How many files.
    pub files: u64,
    /// How many of them are torn.
    pub torn: u64,
    /// The first [`MAX_CHANGED`] of all, in the text form of [`super::path`].
    pub paths: Vec<String>,
}

#[cfg(test)]
mod tests;
