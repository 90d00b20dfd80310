//! Burying processes. As process 1 (or subreaper) the agent inherits every orphan, and must not lose the status of
//! the processes it started itself while it buries the others.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use tokio::sync::{Notify, oneshot};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl From<WaitStatus> for Exit {
    fn from(status: WaitStatus) -> Self {
        match status.terminating_signal() {
            Some(signal) => Self::Signal(signal),
            None => Self::Code(status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(255)),
        }
    }
}

/// A process that we started, leader of its own session and process group.
pub(crate) struct Child {
    /// Its id, and its group's.
    pub(crate) pid: Pid,
    /// Resolves when it has ended.
    pub(crate) exit: oneshot::Receiver<Exit>,
    /// The pipes that were asked for.
    pub(crate) pipes: Pipes,
}

/// Our ends of a child's pipes.
pub(crate) struct Pipes {
    /// Its standard input.
    pub(crate) stdin: Option<std::process::ChildStdin>,
    /// Its standard output.
    pub(crate) stdout: Option<std::process::ChildStdout>,
    /// Its standard error.
    pub(crate) stderr: Option<std::process::ChildStderr>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<i32, oneshot::Sender<Exit>>,
    closed: bool,
}

/// The processes that we started and that have not ended.
#[derive(Default)]
pub(crate) struct Children {
    table: Mutex<Table>,
    /// Told after each burial.
    pub(crate) buried: Notify,
    /// Told after each start.
    pub(crate) started: Notify,
    /// The same, for who looks for ports.
    pub(crate) begun: Notify,
}

impl Children {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process. The table stays locked until it is in there, so it cannot be buried as a stranger.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut table = self.table();
        if table.closed {
            return Err(io::Error::other("the machine is ending"));
        }
        let mut child = command.spawn()?;
        let raw = i32::try_from(child.id()).unwrap_or_default();
        let pid = Pid::from_raw(raw).ok_or_else(|| io::Error::other("a process without an id"))?;
        let (ended, exit) = oneshot::channel();
        table.waiting.insert(raw, ended);
        let pipes =
            Pipes { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
        self.started.notify_one();
        self.begun.notify_one();
        // Dropping std's handle neither waits nor kills.
        Ok(Child { pid, exit, pipes })
    }

    /// Starts no more processes.
    pub(crate) fn close(&self) {
        self.table().closed = true;
    }

    /// Starts no more processes, if this holds at that moment; answers whether it did.
    pub(crate) fn close_if(&self, condition: impl FnOnce() -> bool) -> bool {
        let mut table = self.table();
        table.closed |= condition();
        table.closed
    }

    /// Whether no more processes are started.
    pub(crate) fn is_closed(&self) -> bool {
        self.table().closed
    }

    /// The processes that we started.
    pub(crate) fn alive(&self) -> Vec<Pid> {
        self.table().waiting.keys().filter_map(|raw| Pid::from_raw(*raw)).collect()
    }

    /// Buries everyone who has ended. This is the only place that waits for processes.
    pub(crate) fn bury(&self) {
        let mut table = self.table();
        let mut any = false;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            any = true;
            if let Some(ended) = table.waiting.remove(&pid.as_raw_nonzero().get()) {
                // Whoever asked may have lost interest.
                let _ = ended.send(status.into());
            }
        }
        drop(table);
        if any {
            self.buried.notify_waiters();
        }
    }

    /// Whether no process is left, orphans included: without a child nobody descends from us.
    pub(crate) fn none_left() -> bool {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(rustix::process::waitid(WaitId::All, peek), Err(rustix::io::Errno::CHILD))
    }
}

/// Kills a child's whole group. To be called only while the child has not been buried: its id is still its own.
pub(crate) fn kill_group(pid: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(pid, signal);
}

/// A signal's name as in the exec messages and RFC 4254 section 6.10: without `SIG`.
pub(crate) fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGABRT => "ABRT",
        libc::SIGALRM => "ALRM",
        libc::SIGBUS => "BUS",
        libc::SIGFPE => "FPE",
        libc::SIGHUP => "HUP",
        libc::SIGILL => "ILL",
        libc::SIGINT => "INT",
        libc::SIGKILL => "KILL",
        libc::SIGPIPE => "PIPE",
        libc::SIGPROF => "PROF",
        libc::SIGQUIT => "QUIT",
        libc::SIGSEGV => "SEGV",
        libc::SIGSYS => "SYS",
        libc::SIGTERM => "TERM",
        libc::SIGTRAP => "TRAP",
        libc::SIGUSR1 => "USR1",
        libc::SIGUSR2 => "USR2",
        libc::SIGVTALRM => "VTALRM",
        libc::SIGXCPU => "XCPU",
        libc::SIGXFSZ => "XFSZ",
        _ => "UNKNOWN",
    }
}
