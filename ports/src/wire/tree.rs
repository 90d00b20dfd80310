//! Format 1 of a captured tree: layers and snapshots.
//!
//! A zstd-compressed tar (POSIX pax). Its members are the entries below the roots, named without the leading slash
//! (`workspace/src/main.rs`, `home/flare/.bashrc`), each root itself first, sorted by path as bytes, parents before
//! children. The last member is [`MANIFEST_MEMBER`]: JSON lines, a [`Header`] and then an [`Entry`] per member in
//! the same order. Paths stand in the manifest in the text form of [`super::path`] ([`Entry::path`]).
//! Owners are not kept: everything belongs to the session's user. Sockets are left out; hard links become files.
//!
//! The **digest** of a tree is BLAKE3 (hexadecimal) over, for each entry in order: path, 0, kind letter, mode (4 octal
//! digits), 0, link target or the content's digest in hexadecimal or nothing, newline. Times are kept beside it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The format this build writes. Readers refuse higher ones.
pub const FORMAT: u32 = 1;
/// Name of the last member.
pub const MANIFEST_MEMBER: &str = ".flare-manifest.jsonl";

/// First line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// The roots, absolute.
    pub roots: Vec<String>,
    /// Entries that follow.
    pub entries: u64,
}

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Folder.
    #[serde(rename = "d")]
    Folder,
    /// Regular file.
    #[serde(rename = "f")]
    File,
    /// Symbolic link.
    #[serde(rename = "l")]
    Link,
    /// Named pipe.
    #[serde(rename = "p")]
    Pipe,
}

impl Kind {
    /// The letter that stands in the manifest and the digest.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Folder => 'd',
            Self::File => 'f',
            Self::Link => 'l',
            Self::Pipe => 'p',
        }
    }
}

/// One line of the manifest after the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Without leading slash, in the text form of [`super::path`].
    pub path: String,
    /// Type.
    pub kind: Kind,
    /// Permission bits, 0 to 0o1777 (no set-id bits).
    pub mode: u32,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Bytes of a file.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// BLAKE3 of a file's bytes, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Target of a link, encoded as the path is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The format of the archive.
    pub format: u32,
    /// Digest of the tree.
    pub digest: String,
    /// Entries, the roots included.
    pub files: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// BLAKE3 of the archive as it was sent, hexadecimal; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_blake3: Option<String>,
}

/// Feeds entries, in order, to the digest of a tree.
#[derive(Debug, Default)]
pub struct Digest {
    hasher: blake3::Hasher,
    line: String,
    files: u64,
    bytes: u64,
}

impl Digest {
    /// Adds the next entry.
    pub fn add(&mut self, entry: &Entry) {
        let content = entry.link.as_deref().or(entry.blake3.as_deref()).unwrap_or("");
        self.add_parts(&entry.path, entry.kind, entry.mode, content, entry.size);
    }

    /// Adds the next entry by its parts: path in its text form, and the link's target (in that form, too) or the
    /// content's digest in hexadecimal or nothing.
    pub fn add_parts(&mut self, path: &str, kind: Kind, mode: u32, content: &str, size: u64) {
        self.line.clear();
        // Writing to a String cannot fail.
        let _ = writeln!(self.line, "{path}\0{}{mode:04o}\0{content}", kind.letter());
        self.hasher.update(self.line.as_bytes());
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    /// The summary of all entries so far, without the archive's own digest.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            format: FORMAT,
            digest: self.hasher.finalize().to_hex().to_string(),
            files: self.files,
            bytes: self.bytes,
            archive_blake3: None,
        }
    }
}
