use serde::{Deserialize, Serialize};

use super::{Build, Session};
use crate::blob::BlobKey;
use crate::id::Id;
use crate::time::Timestamp;

/// Something to be done outside the store after a commit, at least once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Let the session's actor look at its record.
    WakeSession {
        /// The session.
        session: Id<Session>,
    },
    /// Enqueue the job that drives a build.
    RunBuild {
        /// The build.
        build: Id<Build>,
    },
    /// Remove a blob that no record names any more.
    DeleteBlob {
        /// The blob.
        blob: BlobKey,
    },
    /// Remove the blob of a snapshot that is gone, unless another one names it.
    DropSnapshot {
        /// The blob.
        blob: BlobKey,
    },
    /// Look for packs of a lineage that nothing names.
    SweepPacks {
        /// Its first session.
        lineage: Id<Session>,
    },
    /// Tell the machines of the workspace's sessions its secrets.
    PushSecrets {
        /// The version of all of them together, at least.
        version: u64,
    },
    /// Remove a session's machine and disk.
    DestroyMachine {
        /// Whose machine.
        owner: String,
        /// Its last life.
        epoch: u64,
    },
}

/// An effect that waits to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEffect {
    /// Key within its outbox; grows.
    pub seq: u64,
    /// The workspace it belongs to; none for the directory's.
    pub workspace: Option<Id<super::Workspace>>,
    /// What to do.
    pub effect: Effect,
    /// Deliveries tried.
    pub attempts: u32,
    /// When it is due.
    pub due_at: Timestamp,
}
