use serde::{Deserialize, Serialize};

/// What counts as activity, and so keeps a machine awake. Open connections, keepalives, pings, and terminals at which
/// nobody types do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The machine began to live.
    Start,
    /// Somebody typed at a terminal.
    TerminalInput,
    /// A client sent bytes on an SSH channel, or asked for a program.
    SshInput,
    /// A request to a port was served.
    Preview,
    /// A command was asked for, or runs.
    Exec,
    /// A file was read or changed through the API.
    Files,
    /// A job that was marked by a lock below `awake/` runs.
    Job,
    /// The user's processes used the processor.
    Cpu,
    /// Something that only a newer agent knows.
    #[serde(other)]
    Other,
}

/// Something that holds a machine awake for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// What it is.
    pub reason: Reason,
    /// How many of them.
    pub count: u32,
}

/// How active a machine is, as its agent judges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Since the last activity, in milliseconds of a clock that stands still while the host sleeps; 0 while busy.
    pub last_active_ms_ago: u64,
    /// What that activity was.
    pub reason: Reason,
    /// What holds the machine awake now.
    pub busy: Vec<Busy>,
    /// Processor time that the user's processes have used in this life, in milliseconds; ended ones whose parents did
    /// not wait for them excluded.
    pub cpu_ms: u64,
    /// Names the last activity; see [`Quiesce::if_idle_since`].
    pub mark: u64,
    /// Whether the machine was told to end its processes already: nothing is started in it any more.
    #[serde(default)]
    pub ending: bool,
}

/// Ends the user's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiesce {
    /// Between TERM and KILL, in milliseconds; at most 60,000.
    pub grace_ms: u64,
    /// Only if nothing has happened since the [`Activity::mark`] that was looked at: otherwise the call is refused
    /// with `busy` and nothing is ended. Checked in the same step that lets no new process start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_idle_since: Option<u64>,
}
