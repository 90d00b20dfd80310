use serde::{Deserialize, Serialize};

use super::{Failure, Pack, Session, Workspace};
use crate::blob::BlobKey;
use crate::id::{Id, Kind};
use crate::machine::Epoch;
use crate::text::Label;
use crate::time::Timestamp;

/// Why a snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// By stopping, by time, or as the beginning of a fork.
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
    /// Wanted, or being taken. A session has at most one.
    Pending,
    /// Stored and verified.
    Complete,
    /// It will never be complete.
    Failed,
}

/// The whole tree of a session at one moment.
///
/// In format 1 its blob is an archive of everything. In format 2 it is a manifest, and the bytes lie in the packs that
/// [`SnapshotPack`] rows name. Several snapshots may name one blob (a fork's first one its origin's): a blob goes
/// when no record names it any more, and is never named anew after that.
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
    /// What somebody called it.
    pub label: Option<Label>,
    /// The one it was taken on top of, or copied from; that one may be gone.
    pub parent: Option<Id<Snapshot>>,
    /// 1: an archive ([`crate::wire::tree::FORMAT`]); 2: a manifest and packs; 0 before the first attempt.
    pub format: u32,
    /// Where the archive or the manifest lies; while pending, where the present attempt writes it.
    pub blob: BlobKey,
    /// Digest of the tree, hexadecimal; empty until complete.
    pub digest: String,
    /// Entries in the tree.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the blob.
    pub stored: u64,
    /// Bytes of all packs it names, those that others name too among them.
    pub packed: u64,
    /// The life of the machine it shows.
    pub epoch: Epoch,
    /// When what is stored was last found to be what was sent: at the end of taking it and of every restore.
    pub verified_at: Option<Timestamp>,
    /// When it has to be looked at: while pending its deadline, afterwards the end of its keeping. Never, if none.
    pub due_at: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

/// A snapshot names a pack. Key: both. While it is there the pack stays: the row of a pending snapshot is
/// its lease on the pack, and ends with the snapshot's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPack {
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The snapshot.
    pub snapshot: Id<Snapshot>,
    /// The pack.
    pub pack: Id<Pack>,
}

/// A snapshot names all packs that another one names in the moment of the commit, beside its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedPacks {
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// Whose packs.
    pub from: Id<Snapshot>,
    /// Who names them from now on.
    pub to: Id<Snapshot>,
}

impl Kind for Snapshot {
    const PREFIX: &'static str = "snp";
    const NOUN: &'static str = "snapshot";
}
