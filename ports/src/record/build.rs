use serde::{Deserialize, Serialize};

use super::{Template, Version, Workspace};
use crate::blob::BlobKey;
use crate::id::{Id, Kind};
use crate::machine::Epoch;
use crate::time::Timestamp;

/// Where a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// Waits for a worker, or for its next attempt.
    Queued,
    /// A worker holds its lease.
    Running,
    /// The version is ready.
    Succeeded,
    /// It ended without a layer; the reason says why.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// The making of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Key.
    pub id: Id<Build>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The template.
    pub template: Id<Template>,
    /// The version it makes.
    pub version: Id<Version>,
    /// Where it is.
    pub state: BuildState,
    /// The step that runs or ran last: `prepare`, `setup-1`, …, `capture`, `record`.
    pub step: Option<String>,
    /// How many steps there are.
    pub steps: u32,
    /// Attempts begun, from 1; each has its own log and is the epoch of its machine.
    pub attempt: u32,
    /// The machine's key, sealed by the deployment's master key; set while an attempt runs.
    pub sealed_key: Option<String>,
    /// The life of its machine.
    pub epoch: Epoch,
    /// Until when the worker's lease holds, or when the next attempt is due.
    pub deadline: Option<Timestamp>,
    /// Why it failed: a stable code and a sentence.
    pub failure: Option<super::Failure>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Commits so far.
    pub revision: u64,
}

/// Index of one piece of an attempt's log. Key: workspace, build, attempt, offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The build.
    pub build: Id<Build>,
    /// The attempt.
    pub attempt: u32,
    /// Where the piece begins in the attempt's log, in bytes.
    pub offset: u64,
    /// Its bytes, at most 262,144.
    pub size: u64,
    /// Where the bytes are.
    pub blob: BlobKey,
}

impl Kind for Build {
    const PREFIX: &'static str = "bld";
    const NOUN: &'static str = "build";
}
