//! Memory of processes, from /proc.

use std::fs;

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

/// The agents that run on this machine.
pub(crate) fn agents() -> Vec<Memory> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with(burstflare_ports::wire::AGENT_ARGV0.as_bytes()))
        })
        .map(of)
        .collect()
}
