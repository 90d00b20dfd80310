//! What Workers and the object of a machine say to each other: requests of `stub.fetch`.
//!
//! | request | body → answer |
//! |---|---|
//! | `POST /machine/start` | [`StartCall`] → null |
//! | `POST /machine/inspect` | → [`StatusAnswer`] or null |
//! | `POST /machine/seal`, `/machine/destroy` | [`EpochCall`] → null |
//! | `POST /machine/stop` | [`StopCall`] → [`StoppedAnswer`] |
//! | `POST /machine/wake` | → null |
//! | any `/agent/…` | a call to the agent, both bodies streamed, upgrades passed on unchanged |
//!
//! Each carries [`MACHINE`]. A failure is status 503 with its kind in [`FAILURE`] and its text as the body.

use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::machine::{Epoch, LayerRef, MachineKey, Stopped};
use burstflare_ports::wire::Boot;
use serde::{Deserialize, Serialize};

/// Names the machine: `WORKSPACE/OWNER`.
pub(super) const MACHINE: &str = "flare-machine";
/// How long the agent may take for the head of its answer, in milliseconds.
pub(super) const DEADLINE: &str = "flare-deadline-ms";
/// The kind of a failure, as the object answers it.
pub(super) const FAILURE: &str = "flare-failure";

/// The name of the machine's object.
pub(super) fn name(machine: MachineKey) -> String {
    format!("{}/{}", machine.workspace, machine.owner)
}

/// The machine of a name.
pub(super) fn machine(name: &str) -> Option<MachineKey> {
    let (workspace, owner) = name.split_once('/')?;
    Some(MachineKey { workspace: workspace.parse().ok()?, owner: owner.parse().ok()? })
}

/// A start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartCall {
    pub epoch: Epoch,
    pub layer: Option<LayerRef>,
    pub boot: Boot,
}

/// One of an epoch, and nothing else.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EpochCall {
    pub epoch: Epoch,
}

/// A stop.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StopCall {
    pub epoch: Epoch,
    pub grace_ms: u64,
}

/// How it ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoppedAnswer {
    Clean,
    Killed,
    Absent,
}

impl From<StoppedAnswer> for Stopped {
    fn from(answer: StoppedAnswer) -> Self {
        match answer {
            StoppedAnswer::Clean => Self::Clean,
            StoppedAnswer::Killed => Self::Killed,
            StoppedAnswer::Absent => Self::Absent,
        }
    }
}

/// What is known.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StatusAnswer {
    pub epoch: Epoch,
    pub alive: bool,
}

const KINDS: [(ErrorKind, &str); 12] = [
    (ErrorKind::NotFound, "not_found"),
    (ErrorKind::Conflict, "conflict"),
    (ErrorKind::Stale, "stale"),
    (ErrorKind::Invalid, "invalid"),
    (ErrorKind::TooLarge, "too_large"),
    (ErrorKind::Corrupt, "corrupt"),
    (ErrorKind::Unavailable, "unavailable"),
    (ErrorKind::Timeout, "timeout"),
    (ErrorKind::Full, "full"),
    (ErrorKind::Denied, "denied"),
    (ErrorKind::Unsupported, "unsupported"),
    (ErrorKind::Internal, "internal"),
];

/// The name of an error's kind.
pub(super) fn kind_name(error: &PortError) -> &'static str {
    KINDS.iter().find(|(kind, _)| *kind == error.kind()).map_or("internal", |(_, name)| name)
}

/// The kind of that name.
pub(super) fn kind(name: &str) -> ErrorKind {
    KINDS.iter().find(|(_, known)| *known == name).map_or(ErrorKind::Internal, |(kind, _)| *kind)
}
