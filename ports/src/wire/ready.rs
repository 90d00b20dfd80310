use serde::{Deserialize, Serialize};

use crate::machine::Epoch;

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The highest protocol version the agent speaks.
    pub protocol: u16,
    /// The lowest one.
    pub oldest_protocol: u16,
    /// What it can beyond version 1: names of [`super::capability`]; unknown ones are ignored.
    pub capabilities: Vec<String>,
    /// The machine's name.
    pub machine: String,
    /// The life it belongs to.
    pub epoch: Epoch,
    /// The SSH host key in OpenSSH's one-line format, without comment.
    pub ssh_host_key: String,
    /// Since the agent started, in milliseconds.
    pub uptime_ms: u64,
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable: `unauthorized`, `stale_epoch`, `invalid`, `unknown_call`, `not_found`, `too_large`, `corrupt`, `full`,
    /// `busy`, `internal`.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
}

/// Ends everything in the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// Between TERM and KILL, in milliseconds; at most 60,000.
    pub grace_ms: u64,
}
