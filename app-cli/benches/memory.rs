//! Memory of processes, from /proc.

use std::fs;
use std::path::Path;

use serde_json::Value;

pub(crate) struct Memory {
    /// Resident megabytes, shared pages included.
    pub(crate) resident: f64,
    /// Megabytes with shared pages divided among those who share them.
    pub(crate) proportional: f64,
}

pub(crate) fn of(pid: u32) -> Memory {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name));
        let kilobytes =
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok());
        kilobytes.unwrap_or(f64::NAN) / 1024.0
    };
    Memory { resident: field("Rss:"), proportional: field("Pss:") }
}

/// The agents of this server's machines.
pub(crate) fn agents(data: &Path) -> Vec<Memory> {
    agent_pids(data).into_iter().map(of).filter(|memory| !memory.resident.is_nan()).collect()
}

/// Their processes, those of machines that have ended among them.
pub(crate) fn agent_pids(data: &Path) -> Vec<u32> {
    let machines = fs::read_dir(data.join("machines")).unwrap().flatten();
    machines
        .filter_map(|machine| fs::read(machine.path().join("life.json")).ok())
        .filter_map(|life| serde_json::from_slice::<Value>(&life).ok()?["pid"].as_u64())
        .map(|pid| u32::try_from(pid).unwrap())
        .collect()
}
