//! Limits that the kernel does not hold: measured every few seconds, and acted upon.
//!
//! At 90 % of its disk a machine gets a notice. At 100 % the processes that write are ended: those that hold a file
//! below the roots open for writing, and from 110 % on all but the agent. A shell that only removes files lives.
//! Where no control group bounds memory, the largest process is ended while the sum of all is over the limit.
//! Every act is a [`Notice`], which also goes to `notices.jsonl` in the machine's folder.

mod machine;

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use burstflare_ports::machine::{Epoch, MachineKey, MachineOwner};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::watch::Receiver;
use tokio::sync::watch::error::RecvError;

use self::machine::Machine;
use super::disk;
use super::record::{Folder, Life};
use super::spawn;

/// Between two measurements; longer where measuring itself takes long, but never longer than [`LONGEST`].
const PERIOD: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(30);
/// Measurements of a machine that did nothing are left out, all but one of so many.
const SKIPS: u32 = 10;
/// A machine that is quiet for so many periods, with nobody connected, is left alone until somebody comes.
const RESTS: u32 = SKIPS;
/// A measurement may take this share of the time.
const SHARE: u32 = 20;
/// Memory can be filled within a second.
const MEMORY_PERIOD: Duration = Duration::from_millis(500);
/// Bytes kept of the agent's log and of the notices.
const LOG: u64 = 1 << 20;

/// What happened to a machine at a watched limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The machine.
    pub machine: MachineKey,
    /// Its life.
    pub epoch: Epoch,
    /// What happened.
    pub kind: NoticeKind,
    /// Bytes in use.
    pub used: u64,
    /// Bytes allowed.
    pub limit: u64,
    /// Names of the processes that were ended.
    pub ended: Vec<String>,
}

/// Kinds of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// 90 % of the disk are in use.
    DiskNearlyFull,
    /// The disk is full: writers were ended.
    DiskFull,
    /// More memory is in use than allowed: the largest process was ended.
    MemoryFull,
}

#[derive(Serialize)]
struct Line<'a> {
    machine: String,
    epoch: Epoch,
    kind: NoticeKind,
    used: u64,
    limit: u64,
    ended: &'a [String],
}

/// Watches one life until it is dropped.
pub(super) async fn watch(
    notices: broadcast::Sender<Notice>,
    visits: Receiver<usize>,
    bounds_memory: bool,
    folder: Folder,
    life: Life,
    pid: i32,
) {
    // Read once, while the machine is known to live: later its number may be somebody else's.
    let machine = Machine::of(pid);
    let disk = async {
        let mut warned = false;
        let mut pause = PERIOD;
        let mut quiet = Quiet::default();
        let mut callers = visits.clone();
        loop {
            if quiet.rests() {
                if left_alone(&mut callers).await.is_err() {
                    return;
                }
                quiet = Quiet::default();
            }
            // A look that finds nothing new costs next to nothing, however long measuring takes.
            tokio::time::sleep_until(beat(if quiet.looks > 0 { PERIOD } else { pause })).await;
            if quiet.lasts(machine.effort_of_a_lone_agent()) {
                continue;
            }
            let (place, limit, log) = (folder.disk(life.disk), life.disk_limit, folder.path.clone());
            let machine = machine.clone();
            let measured = tokio::task::spawn_blocking(move || {
                bound_logs(&log);
                let begun = Instant::now();
                let used = disk_use(&place, &machine);
                let mut ended = Vec::new();
                if used >= limit {
                    ended = end_writers(&machine, used >= limit.saturating_add(limit / 10));
                }
                (used, ended, begun.elapsed())
            });
            let Ok((used, ended, took)) = measured.await else { return };
            pause = PERIOD.max(took * SHARE).min(LONGEST);
            let near = used >= life.disk_limit / 10 * 9;
            let kind = match (used >= life.disk_limit, near && !warned) {
                (true, _) if !ended.is_empty() || !warned => Some(NoticeKind::DiskFull),
                (false, true) => Some(NoticeKind::DiskNearlyFull),
                _ => None,
            };
            warned = near;
            if let Some(kind) = kind {
                tell(&notices, &folder, &life, kind, used, life.disk_limit, ended);
            }
        }
    };
    let memory = async {
        if bounds_memory {
            return std::future::pending().await;
        }
        let mut callers = visits.clone();
        loop {
            if machine.is_a_lone_agent() && left_alone(&mut callers).await.is_err() {
                return;
            }
            tokio::time::sleep(MEMORY_PERIOD).await;
            let limit = life.memory_limit;
            let machine = machine.clone();
            let measured = tokio::task::spawn_blocking(move || end_largest(&machine, limit));
            let Ok(measured) = measured.await else { return };
            if let Some((used, name)) = measured {
                tell(&notices, &folder, &life, NoticeKind::MemoryFull, used, limit, vec![name]);
            }
        }
    };
    tokio::join!(disk, memory);
}

/// Waits while nobody is connected, and until somebody comes or goes. An error is the end of the machine.
async fn left_alone(callers: &mut Receiver<usize>) -> Result<(), RecvError> {
    // Who has come and gone since the last question counts as well.
    if *callers.borrow() > 0 { Ok(()) } else { callers.changed().await }
}

/// Machines whose periods are alike are looked at in the same moments: a server of many wakes as often as one of few.
fn beat(pause: Duration) -> tokio::time::Instant {
    static FIRST: OnceLock<tokio::time::Instant> = OnceLock::new();
    let now = tokio::time::Instant::now();
    let first = *FIRST.get_or_init(|| now);
    let beats = (now + pause).duration_since(first).as_millis() / PERIOD.as_millis();
    first + PERIOD * u32::try_from(beats).unwrap_or(u32::MAX)
}

/// Knows when a measurement would find what the one before found: nothing but the agent was there, then and now, and
/// no processor time was used in between. What is done within one tick of the kernel's clock can escape that, so a
/// measurement is left out for [`SKIPS`] periods at most.
#[derive(Debug, Default)]
struct Quiet {
    effort: Option<u64>,
    looks: u32,
}

impl Quiet {
    fn lasts(&mut self, effort: Option<u64>) -> bool {
        let same = effort.is_some() && effort == self.effort;
        self.effort = effort;
        self.looks = if same { self.looks + 1 } else { 0 };
        same && !self.looks.is_multiple_of(SKIPS)
    }

    /// Whether it has been so for long, and was measured after that.
    fn rests(&self) -> bool {
        self.looks >= RESTS
    }
}

fn tell(
    notices: &broadcast::Sender<Notice>,
    folder: &Folder,
    life: &Life,
    kind: NoticeKind,
    used: u64,
    limit: u64,
    ended: Vec<String>,
) {
    tracing::warn!(machine = %folder.key.owner, ?kind, used, limit, ?ended, "a machine reached a limit");
    let owner: MachineOwner = folder.key.owner;
    let line = Line { machine: owner.to_string(), epoch: life.epoch, kind, used, limit, ended: &ended };
    let written = serde_json::to_vec(&line).map_err(std::io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        let path = folder.path.join("notices.jsonl");
        fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(&line)
    });
    if let Err(error) = written {
        tracing::warn!(%error, "a notice could not be kept");
    }
    // Nobody has to listen.
    let _ = notices.send(Notice { machine: folder.key, epoch: life.epoch, kind, used, limit, ended });
}

/// The agent appends to its log for as long as it lives; begun anew when it is long.
fn bound_logs(folder: &Path) {
    for name in ["agent.log", "notices.jsonl"] {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() > LOG) {
            let _ = fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0));
        }
    }
}

/// Bytes of a disk, those of removed files that are still open included. A disk that is gone takes none.
fn disk_use(place: &Path, machine: &Machine) -> u64 {
    let seen = match disk::usage(place) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::debug!(%error, "a disk could not be measured");
            0
        }
    };
    let mut files = HashSet::new();
    let removed: u64 = machine
        .descendants()
        .into_iter()
        .flat_map(below_roots)
        .filter_map(|path| fs::metadata(path).ok())
        .filter(|meta| meta.nlink() == 0 && files.insert((meta.dev(), meta.ino())))
        .map(|meta| meta.blocks().saturating_mul(512))
        .sum();
    seen.saturating_add(removed)
}

/// The open files of a process that lie, or lay, below the roots.
fn below_roots(pid: i32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let below = |target: &Path| target.starts_with("/workspace") || target.starts_with("/home/flare");
    entries
        .map(|entry| entry.path())
        .filter(|path| fs::read_link(path).is_ok_and(|target| below(&target)))
        .collect()
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Ends a process, if it still is one of this machine's.
fn end(machine: &Machine, pid: i32) -> Option<String> {
    let handle = spawn::pidfd(pid).ok()?;
    // With the handle held, the number cannot pass to another process between this look and the signal.
    let name = name(pid);
    (machine.holds(pid) && spawn::signal(&handle, libc::SIGKILL).is_ok()).then_some(name)
}

fn end_writers(machine: &Machine, all: bool) -> Vec<String> {
    let processes = machine.processes().into_iter();
    processes.filter(|pid| all || writes(*pid)).filter_map(|pid| end(machine, pid)).collect()
}

/// Whether a process holds a file below the roots open for writing.
fn writes(pid: i32) -> bool {
    below_roots(pid).into_iter().any(|path| {
        let number = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let flags =
            info.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    })
}

/// Ends the largest process while all together are over the limit.
fn end_largest(machine: &Machine, limit: u64) -> Option<(u64, String)> {
    let sizes: Vec<(u64, i32)> = machine.processes().into_iter().map(|pid| (resident(pid), pid)).collect();
    let used: u64 = sizes.iter().map(|(size, _)| size).sum();
    if used <= limit {
        return None;
    }
    let (_, largest) = sizes.into_iter().max()?;
    end(machine, largest).map(|name| (used, name))
}

/// Bytes of memory that a process alone or first of all uses (`RssAnon` and `RssShmem`).
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("RssAnon:").or_else(|| line.strip_prefix("RssShmem:")))
        .filter_map(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .sum::<u64>()
        .saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_that_does_nothing_is_left_alone_and_not_for_ever() {
        let mut quiet = Quiet::default();
        assert!(!quiet.lasts(Some(7)), "the first look");
        for _ in 1..SKIPS {
            assert!(quiet.lasts(Some(7)));
            assert!(!quiet.rests());
        }
        assert!(!quiet.lasts(Some(7)), "once in a while");
        assert!(quiet.rests(), "measured, and nothing since");
        assert!(quiet.lasts(Some(7)));
        assert!(!quiet.lasts(Some(8)), "it worked");
        assert!(!quiet.rests());
        assert!(!quiet.lasts(None), "it has processes");
        assert!(!quiet.lasts(None), "and keeps them");
        assert!(!quiet.lasts(Some(8)), "they ended");
    }
}
