//! Files of a machine, by path.
//!
//! A path is absolute and below one of the roots, or relative to the first root, in the text form of [`super::path`];
//! in a query it is percent-encoded once more. `..` is refused. Links on the way are followed as long as they are
//! relative and stay below the same root; the last name is followed by reading only.
//!
//! | call | body → answer |
//! |---|---|
//! | `GET /v1/files?path=` | → a file's bytes (with `Range`, `If-Range`, `If-None-Match`), or a [`FolderPage`] of a folder (`limit`, `after`) |
//! | `GET /v1/files?path=&stat=true` | → [`FileInfo`]; a last link is not followed |
//! | `PUT /v1/files?path=` | bytes (`If-Match`, `If-None-Match`; `mode` octal, `mtime_ns`, `parents=true`) → [`FileInfo`] |
//! | `DELETE /v1/files?path=` | (`If-Match`; `recursive=true`) → 204 |
//! | `POST /v1/files` | [`FileChange`] → [`FileInfo`] |
//! | `GET /v1/archive?path=` | → a tar of a folder: itself as `.`, then what is in it |
//! | `PUT /v1/archive?path=` | such a tar, unpacked into the folder → [`ArchiveReceived`] |
//! | `GET /v1/search?path=` | (`name`, `text`, `limit`) → [`Found`] |
//!
//! Every answer about something that is there carries [`KIND_HEADER`].
//!
//! An **entity tag** is strong: a digest over inode, size, and the times of the last change of content and of anything,
//! in nanoseconds. Every write through these calls makes a new inode with a time of its own, so tags never come back.

use serde::{Deserialize, Serialize};

/// Tells [`FileKind`] in its JSON word.
pub const KIND_HEADER: &str = "flare-file-kind";
/// A file's permission bits, octal.
pub const MODE_HEADER: &str = "flare-file-mode";
/// A file's modification time, nanoseconds since 1970, decimal.
pub const MTIME_HEADER: &str = "flare-file-mtime";
/// Names of a folder's page at most.
pub const PAGE_LIMIT: usize = 1000;
/// Hits of a search at most.
pub const FOUND_LIMIT: usize = 1000;

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Regular file.
    File,
    /// Folder.
    Folder,
    /// Symbolic link.
    Link,
    /// Pipe, socket or device: it is listed, renamed and deleted, and never opened.
    Other,
}

impl FileKind {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
            Self::Other => "other",
        }
    }
}

/// What is known of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Absolute, in the text form of [`super::path`].
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes; of a link the length of its target.
    pub size: u64,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The entity tag, with its quotes; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Where a link points, in the text form of [`super::path`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// A part of a folder's content, sorted by name as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderPage {
    /// The folder.
    pub folder: FileInfo,
    /// What is in it.
    pub items: Vec<FileInfo>,
    /// Where there is more: the last name, for `after`, in the text form of [`super::path`].
    pub next: Option<String>,
}

/// Changes names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum FileChange {
    /// Makes a folder.
    Mkdir {
        /// Which.
        path: String,
        /// Whether folders on the way are made too, and one that is there is fine.
        #[serde(default)]
        parents: bool,
    },
    /// Gives something another name, within its root.
    Rename {
        /// What.
        path: String,
        /// Its new path.
        to: String,
        /// Whether something that has the name is replaced, as rename(2) does.
        #[serde(default)]
        replace: bool,
    },
}

/// What became of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveReceived {
    /// Files, folders and links that are there now.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// How much was left out: what could not be read, devices, links that lead out, names that folders have.
    pub skipped: u64,
    /// Some of it, with the reason.
    pub why: Vec<String>,
}

/// One hit of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Where, absolute, in the text form of [`super::path`].
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// The line's number, from 1, where text was searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The line, cut to 200 bytes, in the text form of [`super::path`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Why a search ended before it had seen everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// As many hits as were asked for.
    Hits,
    /// Its time was over.
    Time,
    /// More files and folders than it looks at.
    Entries,
    /// Folders nested deeper than it goes.
    Depth,
}

/// What a search found, in no promised order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The hits.
    pub items: Vec<Hit>,
    /// Files and folders that were looked at.
    pub looked_at: u64,
    /// Why there may be more.
    pub cut: Option<Cut>,
}
