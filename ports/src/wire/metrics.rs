use serde::{Deserialize, Serialize};

use super::Activity;

/// Where processor and memory were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricsSource {
    /// The machine's own control group.
    Cgroup,
    /// Its processes, one by one: shared memory is counted once at most, ended processes by who waited for them.
    Processes,
}

/// What a machine uses right now. Read when somebody asks; nothing is sampled otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Where processor and memory were read.
    pub source: MetricsSource,
    /// Processor time in this life, in milliseconds.
    pub cpu_ms: u64,
    /// Processor in use lately, in thousandths of a core.
    pub cpu_millicores: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes on disk below the roots, the template's files included.
    pub disk: u64,
    /// Whether the disk was looked at to its end; otherwise it is at least so much.
    pub disk_complete: bool,
    /// Processes, the agent excluded.
    pub processes: u64,
    /// Since the agent started, in milliseconds.
    pub uptime_ms: u64,
    /// When the user was last active.
    pub activity: Activity,
}
