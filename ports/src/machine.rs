//! Machines: where sessions and builds run. A runtime starts, stops and finds machines and keeps their disks;
//! what happens inside is the agent's work, reached by [`AgentLink`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::blob::BlobKey;
use crate::error::PortResult;
use crate::id::Id;
use crate::record::{Build, Session, Workspace};
use crate::secret::Secret;
use crate::stream::Body;
use crate::wire::Boot;

/// Counts the lives of one machine. Every operation carries it; one of an earlier life is refused as `Stale`.
pub type Epoch = u64;

/// Whose machine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MachineOwner {
    /// A session's machine: its disk is kept between lives.
    Session(Id<Session>),
    /// A build's machine: one attempt is one life, nothing is kept.
    Build(Id<Build>),
}

impl fmt::Display for MachineOwner {
    /// The owner's id: letters, digits and one underscore, so it can name a folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => id.fmt(f),
            Self::Build(id) => id.fmt(f),
        }
    }
}

impl FromStr for MachineOwner {
    type Err = crate::id::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Build).or_else(|_| text.parse().map(Self::Session))
    }
}

/// Names one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineKey {
    /// The tenant.
    pub workspace: Id<Workspace>,
    /// The session or build.
    pub owner: MachineOwner,
}

/// A captured tree below the persisted roots, in the archive format of [`crate::wire::tree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Digest of the tree (paths, types, modes, link targets, bytes): 64 hexadecimal digits.
    pub digest: String,
    /// Where the archive lies.
    pub blob: BlobKey,
    /// Length of the archive in bytes.
    pub size: u64,
    /// Entries in the tree.
    pub files: u64,
}

/// Upper bounds for one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Bytes the machine may keep on its own disk.
    pub disk: u64,
    /// Processes and threads.
    pub pids: u32,
}

/// What to do with the disk that the machine's last life left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskPlan {
    /// Continue on it where it is whole, else begin an empty one.
    Keep,
    /// Begin an empty one beside it; the old one goes when the new one is sealed.
    Fresh,
}

/// What the machine was given in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// The disk of the life before, whole.
    Kept,
    /// An empty disk above the layer. It does not count as whole until [`MachineRuntime::seal`].
    Fresh,
}

/// The operation of a `NotFound` that means: the image behind the base is not where machines run.
pub const IMAGE: &str = "machine.image";

/// Everything a machine is started from.
#[derive(Debug)]
pub struct MachineSpec {
    /// Its name.
    pub machine: MachineKey,
    /// Its life.
    pub epoch: Epoch,
    /// Host name inside.
    pub hostname: String,
    /// A name in the deployment's catalogue of bases; `default` always exists.
    pub base: String,
    /// What lies under the disk.
    pub layer: Option<LayerRef>,
    /// What to do with an earlier disk.
    pub disk: DiskPlan,
    /// Upper bounds.
    pub limits: Limits,
    /// What the agent is told through its pipe. The runtime adds what only it knows (egress, tool folders).
    pub boot: Boot,
}

/// A machine that runs; its agent may need another moment to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The disk it got.
    pub disk: DiskState,
}

/// How a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Its agent ended in time and the disk is flushed.
    Clean,
    /// It had to be killed; what the kernel had is on the disk.
    Killed,
    /// There was none.
    Absent,
}

/// What a runtime knows about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineStatus {
    /// Its name.
    pub machine: MachineKey,
    /// The last life the runtime saw.
    pub epoch: Epoch,
    /// Whether its first process lives.
    pub alive: bool,
    /// Whether a whole (sealed) disk is kept.
    pub disk_whole: bool,
}

/// How far a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// By the kernel.
    Enforced,
    /// Measured, and acted upon with delay.
    Watched,
    /// Not at all.
    None,
}

/// How machines are kept apart from the host and from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, no capabilities, a system call filter.
    Sandbox,
    /// A container engine.
    Container,
    /// Plain processes of the server's user: no protection at all.
    Process,
}

/// What a runtime offers, for doctor, sessions and the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeProfile {
    /// `sandbox`, `docker`, …
    pub name: String,
    /// Kind of isolation.
    pub isolation: Isolation,
    /// `proxy`, `host`, `pasta` or `none`: the way out of a machine.
    pub network: String,
    /// By limit: `cpu`, `memory`, `disk`, `pids`.
    pub limits: BTreeMap<String, Enforcement>,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Starts, stops and finds machines.
///
/// Every method is idempotent. Operations on one machine are carried out in turn: one that was answered with a timeout takes
/// effect before the next one on that machine, or never.
///
/// An operation of an epoch below the last seen one answers `Stale` and does
/// nothing. The death of the caller ends no machine: [`MachineRuntime::inspect`] finds it again.
#[async_trait]
pub trait MachineRuntime: Send + Sync + 'static {
    /// What this runtime offers here.
    fn profile(&self) -> RuntimeProfile;

    /// Starts the machine, or finds the one that runs at this epoch. A machine of an earlier epoch is killed first.
    /// `Unsupported` where no runtime is configured or the host cannot isolate; `Full` where no space is left;
    /// `NotFound` in the operation [`IMAGE`] where the base's image is not there.
    async fn start(&self, spec: MachineSpec) -> PortResult<Started>;

    /// What is known about the machine; `None` where nothing is.
    async fn inspect(&self, machine: MachineKey) -> PortResult<Option<MachineStatus>>;

    /// Declares the disk of this epoch whole: from now on a start with [`DiskPlan::Keep`] continues on it, also
    /// after a crash. A disk that it replaces is removed.
    async fn seal(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()>;

    /// Ends the machine, waiting up to `grace` before it kills. The caller has asked the agent to end before.
    async fn stop(&self, machine: MachineKey, epoch: Epoch, grace: Duration) -> PortResult<Stopped>;

    /// Ends the machine and removes its disk.
    async fn destroy(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()>;

    /// Machines and kept disks, up to `limit` (at most 200) after `after`, in order of their owner's id: for reconcile.
    async fn list(&self, after: Option<MachineOwner>, limit: usize) -> PortResult<Vec<MachineStatus>>;

    /// Makes a layer ready, so that a start with it is quick.
    async fn prepare(&self, layer: &LayerRef) -> PortResult<()>;
}

/// Whom to talk to, in which life, with which key.
#[derive(Debug, Clone)]
pub struct AgentTarget {
    /// The machine.
    pub machine: MachineKey,
    /// Its life.
    pub epoch: Epoch,
    /// The key the agent was booted with.
    pub key: Secret<String>,
}

/// Carries calls to a machine's agent.
///
/// The vocabulary is HTTP's ([`http`] types) because the agent speaks it; the adapter adds the key and epoch
/// headers. A reply 101 carries its host's upgrade handle in the extensions: only the app that wired this adapter knows its type.
#[async_trait]
pub trait AgentLink: Send + Sync + 'static {
    /// Sends a call and answers as soon as the reply's head is there. `Unavailable` where nothing listens (yet),
    /// `Timeout` when the head takes longer than `deadline`. Dropping the reply's body cancels the call.
    async fn send(
        &self,
        target: &AgentTarget,
        request: http::Request<Body>,
        deadline: Duration,
    ) -> PortResult<http::Response<Body>>;
}
