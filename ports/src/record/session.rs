use serde::{Deserialize, Serialize};

use super::{Release, Snapshot, Template, User, Version, Workspace};
use crate::id::{Id, Kind};
use crate::machine::Epoch;
use crate::text::Slug;
use crate::time::Timestamp;

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Recorded, never started.
    Created,
    /// Its machine is being started.
    Starting,
    /// Its machine answers.
    Running,
    /// It is being snapshotted and ended.
    Stopping,
    /// No machine; the files are kept.
    Sleeping,
    /// The last transition did not succeed; [`Session::failure`] says why and what can be done.
    Failed,
    /// It is being removed.
    Deleting,
}

/// What its people want it to become; the actor works towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// A running machine.
    Run,
    /// No machine.
    Sleep,
    /// No session.
    Delete,
}

/// Who else may work in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Its owner.
    Private,
    /// All members of the workspace.
    Workspace,
}

/// What put a session to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopCause {
    /// Somebody asked for it.
    Person,
    /// Nobody did anything in it for its idle time.
    Idle,
    /// The server ended in an orderly way.
    Server,
    /// Its machine ended by itself.
    Machine,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable, for programs.
    pub code: String,
    /// One sentence, for people.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The keys of a session's machine, sealed by the deployment's master key; committed before the machine starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKeys {
    /// The agent's key of the current epoch, sealed.
    pub agent: String,
    /// Seed of the SSH host key, sealed; it stays the same for the session's whole life.
    pub ssh_host_seed: String,
}

/// A live machine, or one that sleeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Key.
    pub id: Id<Session>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// Unique in the workspace.
    pub name: Slug,
    /// The template.
    pub template: Id<Template>,
    /// The release it is pinned to.
    pub release: Id<Release>,
    /// That release's version.
    pub version: Id<Version>,
    /// Who made it.
    pub owner: Id<User>,
    /// Who else may work in it.
    pub sharing: Sharing,
    /// Where it is.
    pub state: SessionState,
    /// Where it should go.
    pub goal: Goal,
    /// The current life of its machine; 0 before the first.
    pub epoch: Epoch,
    /// Its keys.
    pub keys: SessionKeys,
    /// The public SSH host key, in OpenSSH's one-line format.
    pub ssh_host_key: String,
    /// Whether the machine may be ended without asking its agent and without a snapshot (a forced stop).
    pub force: bool,
    /// The snapshot that its files go back to where the disk is lost: the newest complete one, or the one restored last.
    pub snapshot: Option<Id<Snapshot>>,
    /// A snapshot that the next start has to restore, whatever the disk holds.
    pub restore: Option<Id<Snapshot>>,
    /// The first session of its lineage: itself, or what its origin was forked from in the beginning. Snapshots
    /// share packs within a lineage.
    pub lineage: Id<Session>,
    /// The snapshot it was forked from; that one may be gone.
    pub forked_from: Option<Id<Snapshot>>,
    /// The life in which its present disk began: names the disk.
    pub disk: Epoch,
    /// When its files were last looked at to be snapshotted; the next time is reckoned from here.
    pub saved_at: Option<Timestamp>,
    /// Whether its disk may hold what no snapshot shows. From a start on, until a stop's snapshot is complete.
    pub unsaved: bool,
    /// When the current state has to be left at the latest (starting, stopping, deleting).
    pub deadline: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Idle time before it sleeps, in seconds, and 0 for never; absent: what its version says.
    pub sleep_after_s: Option<u64>,
    /// What ended its last machine; absent while it has one.
    pub stopped_by: Option<StopCause>,
    /// When somebody last asked for a machine of it, also where it had one already. Counts as use of the session.
    pub wanted_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the state changed last.
    pub changed_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

impl Kind for Session {
    const PREFIX: &'static str = "ses";
    const NOUN: &'static str = "session";
}
