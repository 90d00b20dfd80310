use serde::{Deserialize, Serialize};

use super::{Session, Workspace};
use crate::id::{Id, Kind};
use crate::time::Timestamp;

/// Where a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackState {
    /// Its blobs are being written by the one snapshot that names it.
    Storing,
    /// Its blobs are stored and verified.
    Live,
    /// Nothing named it when the sweep looked; its blobs go when that stays so for long enough.
    Condemned,
}

/// Chunks of files in one blob, with an index in another beside it. Shared by the snapshots of one lineage: a session and
/// what was forked from it. The record is there before its blobs and goes in the commit that lets them go, so no blob
/// is without one. An id is never used again, and neither is a blob's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Key.
    pub id: Id<Pack>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The first session of the lineage; it may be gone.
    pub lineage: Id<Session>,
    /// BLAKE3 of its bytes, 64 hexadecimal digits: its name in manifests.
    pub hash: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Where it is.
    pub state: PackState,
    /// When it was condemned.
    pub condemned_at: Option<Timestamp>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

impl Kind for Pack {
    const PREFIX: &'static str = "pck";
    const NOUN: &'static str = "pack";
}
