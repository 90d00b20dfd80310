use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::files;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::{CutWord, FileKindWord};

/// A file, folder or link of a session.
///
/// Paths are text: UTF-8 stays readable; other bytes, control characters and `%` are written as `%XX`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// Its last name.
    #[schema(example = "main.rs")]
    pub name: String,
    /// Absolute.
    #[schema(example = "/workspace/src/main.rs")]
    pub path: String,
    /// What it is.
    #[schema(value_type = FileKindWord)]
    pub kind: files::FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, octal.
    #[schema(example = "644")]
    pub mode: String,
    /// When its content was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Timestamp,
    /// The entity tag for `If-Match`, with its quotes; files only.
    pub etag: Option<String>,
    /// Where a link points.
    pub link: Option<String>,
}

impl From<files::FileInfo> for File {
    fn from(info: files::FileInfo) -> Self {
        Self {
            name: info.path.rsplit('/').next().unwrap_or_default().to_owned(),
            path: info.path,
            kind: info.kind,
            size: info.size,
            mode: format!("{:o}", info.mode),
            modified_at: Timestamp::from_millis(info.mtime_ns.div_euclid(1_000_000)),
            etag: info.etag,
            link: info.link,
        }
    }
}

/// Changes names in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChangeFile {
    /// Makes a folder.
    Mkdir {
        /// Which.
        path: String,
        /// Whether folders on the way are made too, and one that is there is fine.
        #[serde(default)]
        parents: bool,
    },
    /// Gives something another name.
    Rename {
        /// What.
        path: String,
        /// Its new path.
        to: String,
        /// Whether something that has the name is replaced.
        #[serde(default)]
        replace: bool,
    },
}

impl From<ChangeFile> for files::FileChange {
    fn from(change: ChangeFile) -> Self {
        match change {
            ChangeFile::Mkdir { path, parents } => Self::Mkdir { path, parents },
            ChangeFile::Rename { path, to, replace } => Self::Rename { path, to, replace },
        }
    }
}

/// One hit of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileHit {
    /// Where.
    pub path: String,
    /// What it is.
    #[schema(value_type = FileKindWord)]
    pub kind: files::FileKind,
    /// The line's number, from 1, where text was searched for.
    pub line: Option<u64>,
    /// The line, or 200 bytes of it around the hit; written as paths are.
    pub text: Option<String>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilesFound {
    /// The hits, in no promised order.
    pub items: Vec<FileHit>,
    /// Files and folders that were looked at.
    pub looked_at: u64,
    /// Why there may be more; null where everything was seen.
    #[schema(value_type = Option<CutWord>)]
    pub cut: Option<files::Cut>,
}

impl From<files::Found> for FilesFound {
    fn from(found: files::Found) -> Self {
        let hit =
            |hit: files::Hit| FileHit { path: hit.path, kind: hit.kind, line: hit.line, text: hit.text };
        Self { items: found.items.into_iter().map(hit).collect(), looked_at: found.looked_at, cut: found.cut }
    }
}

/// What became of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilesUnpacked {
    /// Files, folders and links that are there now.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// How much was left out.
    pub skipped: u64,
    /// Some of it, with the reason.
    pub why: Vec<String>,
}

impl From<files::ArchiveReceived> for FilesUnpacked {
    fn from(received: files::ArchiveReceived) -> Self {
        let files::ArchiveReceived { entries, bytes, skipped, why } = received;
        Self { entries, bytes, skipped, why }
    }
}
