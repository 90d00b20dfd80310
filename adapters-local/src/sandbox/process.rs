//! Identity of a process across servers: its number, its start time and the boot they belong to.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::spawn::{self, Ended};

/// A process that was seen, held so that its number cannot come to mean another one.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    started: u64,
    handle: AsyncFd<OwnedFd>,
}

/// Clock ticks between boot and the process's start, and its state letter, from `/proc/PID/stat`.
fn stat(pid: i32) -> Option<(char, u64)> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows the last one is fields 3 and up.
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Tells boots of this host apart.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

impl Process {
    /// A child that was just made. Must be called within a tokio runtime.
    pub(super) fn of_child(pid: i32) -> io::Result<Self> {
        let handle = spawn::pidfd(pid)?;
        let (_, started) = stat(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, started, handle: watch(handle)? })
    }

    /// The process of an earlier server; `None` where it has ended. Must be called within a tokio runtime.
    pub(super) fn find(pid: i32, started: u64) -> Option<Self> {
        // The handle first: what is read afterwards is about the process it holds, or about none.
        let handle = spawn::pidfd(pid).ok()?;
        let (state, seen) = stat(pid)?;
        (seen == started && state != 'Z' && state != 'X').then(|| watch(handle).ok())?.map(|handle| Self {
            pid,
            started,
            handle,
        })
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Its start time, for [`Process::find`].
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// Whether it has not ended.
    pub(super) fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, started)| started == self.started && state != 'Z' && state != 'X')
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        // A pidfd becomes readable when its process ends and stays so. An error means that the handle is of no
        // use any more, which happens only when the runtime shuts down.
        if let Ok(mut guard) = self.handle.readable().await {
            guard.retain_ready();
        }
    }

    /// Ends it and waits until it is gone.
    pub(super) async fn kill(&self) -> io::Result<()> {
        spawn::signal(self.handle.get_ref(), libc::SIGKILL)?;
        self.ended().await;
        Ok(())
    }

    /// How it ended, where it was ours; it is no zombie after that.
    pub(super) fn reap(&self) -> Option<Ended> {
        spawn::reap(self.handle.get_ref())
    }
}

fn watch(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is the handle's own, stays the same and open for as long as the handle lives, and the
    // handle goes with the registration.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.map_err(Into::into)
}
