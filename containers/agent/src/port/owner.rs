//! Which process holds a socket: by the links in `/proc/PID/fd`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rustix::process::{Pid, getpid};

use crate::shutdown::descendants;

/// A process of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its id.
    pub(super) pid: Pid,
    /// Its name, of at most 15 bytes.
    pub(super) name: String,
}

/// Processes looked at; a machine has at most as many as its limit allows.
const PROCESSES: usize = 32_768;

/// The sockets of this process itself: they are nobody's ports.
pub(super) fn own() -> HashSet<u64> {
    sockets(Path::new("/proc/self/fd")).collect()
}

/// The owners of these sockets among the machine's processes, ourselves excluded. Blocks: it may read many folders.
pub(super) fn find(wanted: &HashSet<u64>) -> HashMap<u64, Owner> {
    let mut found = HashMap::new();
    for pid in processes() {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        for inode in sockets(&Path::new(&folder).join("fd")).filter(|inode| wanted.contains(inode)) {
            found.entry(inode).or_insert_with(|| Owner { pid, name: name(&folder) });
        }
        if found.len() == wanted.len() {
            break;
        }
    }
    found
}

/// Everybody in the pid namespace where we are its first process, else everybody who descends from us.
fn processes() -> Vec<Pid> {
    let me = getpid();
    if me.as_raw_nonzero().get() != 1 {
        return descendants();
    }
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != me)
        .take(PROCESSES)
        .collect()
}

/// Nothing for a process that is gone or does not let itself be looked at.
fn sockets(folder: &Path) -> impl Iterator<Item = u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

fn name(folder: &str) -> String {
    let text = std::fs::read(format!("{folder}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&text).chars().filter(|letter| !letter.is_control()).collect()
}
