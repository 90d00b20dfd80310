use serde::{Deserialize, Serialize};

use super::{Session, Workspace};
use crate::blob::BlobKey;
use crate::id::{Id, Kind};
use crate::machine::Epoch;
use crate::time::Timestamp;

/// Why a snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// By stopping.
    Auto,
    /// Somebody asked for it.
    Manual,
    /// Before another one was restored.
    PreRestore,
}

/// Where a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotState {
    /// Being taken.
    Pending,
    /// Stored and verified.
    Complete,
    /// It will never be complete.
    Failed,
}

/// The whole tree of a session at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Key.
    pub id: Id<Snapshot>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The session.
    pub session: Id<Session>,
    /// Why.
    pub kind: SnapshotKind,
    /// Where it is.
    pub state: SnapshotState,
    /// Format of the archive ([`crate::wire::tree::FORMAT`]).
    pub format: u32,
    /// Where the archive lies.
    pub blob: BlobKey,
    /// Digest of the tree, hexadecimal; empty until complete.
    pub digest: String,
    /// Entries in the tree.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the archive.
    pub stored: u64,
    /// The life of the machine it shows.
    pub epoch: Epoch,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

impl Kind for Snapshot {
    const PREFIX: &'static str = "snp";
    const NOUN: &'static str = "snapshot";
}
