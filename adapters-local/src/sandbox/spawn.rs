//! Starting the first process of a machine.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use burstflare_ports::error::{ErrorKind, PortError};

use super::child::{Job, become_agent, become_host_user};
use super::plan::{Stage, Step};

/// One start at a time: children share the server's memory, and with it its `dumpable` flag.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const STACK: usize = 256 * 1024;

/// A mapped stack with a guard page below it.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping that nobody else knows; its lowest page is made unusable.
        unsafe {
            let base = libc::mmap(ptr::null_mut(), STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            libc::mprotect(base, 4096, libc::PROT_NONE);
            Ok(Self(base))
        }
    }

    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever ran on it has ended.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

/// Runs the job's child up to the agent's first instruction; answers its process id. The child is this process's
/// own, so that its end can be learnt. Blocks for the milliseconds it takes.
pub(super) fn run(mut job: Box<Job>) -> Result<i32, Refused> {
    let failed = |error: &io::Error| Refused {
        stage: Stage::Namespaces,
        about: String::new(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    };
    let first = Stack::new().map_err(|error| failed(&error))?;
    let second = Stack::new().map_err(|error| failed(&error))?;
    job.second_stack = second.top();
    job.taken = job.plan.sources.iter().map(|_| AtomicI32::new(-1)).collect();
    let argument: *mut c_void = (&raw mut *job).cast();

    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let direct =
        job.namespaces | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
    let by_way_of_user = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let blocked = BlockedSignals::all();
    // SAFETY: the functions keep to the rules of their module; stacks and job outlive them, because CLONE_VFORK
    // suspends this thread until they have ended or become the agent (see below for the one exception).
    let (cloned, error, dumpable) = unsafe {
        let dumpable = libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0);
        let cloned = if job.host_user.is_some() {
            libc::clone(become_host_user, first.top(), by_way_of_user, argument)
        } else {
            libc::clone(become_agent, first.top(), direct, argument, job.report.pid.as_ptr())
        };
        (cloned, io::Error::last_os_error(), dumpable)
    };
    // SAFETY: puts this process's own flag back to what it was.
    unsafe {
        libc::prctl(
            libc::PR_SET_DUMPABLE,
            libc::c_ulong::from(dumpable == 1),
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
    drop(blocked);
    drop(turn);
    if cloned < 0 {
        return Err(failed(&error));
    }
    let pid = job.report.pid.load(Ordering::SeqCst);
    if job.host_user.is_some() && !ended_by_itself(cloned) {
        // It was killed while the second child may still run on our memory: end that one too, and rather lose
        // the memory than let it be used twice.
        if pid > 0 {
            kill_and_reap(pid);
        }
        std::mem::forget((first, second, job));
        return Err(Refused {
            stage: Stage::Namespaces,
            about: " (the process was killed)".to_owned(),
            errno: libc::EINTR,
        });
    }
    let errno = job.report.errno.load(Ordering::SeqCst);
    if errno == 0 && pid > 0 {
        return Ok(pid);
    }
    if pid > 0 {
        kill_and_reap(pid);
    }
    Err(explain(&job, errno))
}

/// Reaps the first child; false when a signal ended it.
fn ended_by_itself(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: waits for our own child and writes to a local.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    libc::WIFEXITED(status)
}

/// Kills and reaps a child of ours that is of no use.
pub(super) fn kill_and_reap(pid: i32) {
    // SAFETY: the process is our own unreaped child, so the number is still its.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        while libc::waitpid(pid, ptr::null_mut(), 0) < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

/// Where and why a start came to nothing.
#[derive(Debug)]
pub(super) struct Refused {
    /// What was being done.
    pub stage: Stage,
    /// Which part of it, for people.
    pub about: String,
    /// The kernel's answer.
    pub errno: i32,
}

impl From<Refused> for PortError {
    fn from(refused: Refused) -> Self {
        let kind = match refused.errno {
            libc::ENOSPC | libc::EDQUOT | libc::ENOMEM | libc::EAGAIN => ErrorKind::Full,
            libc::EPERM | libc::EACCES => ErrorKind::Denied,
            _ => ErrorKind::Internal,
        };
        let context = format!("the kernel refused {}{}", refused.stage, refused.about);
        Self::new(kind, "machine.start", context).with_source(io::Error::from_raw_os_error(refused.errno))
    }
}

fn explain(job: &Job, errno: i32) -> Refused {
    let stage = Stage::of(job.report.stage.load(Ordering::SeqCst)).unwrap_or(Stage::Namespaces);
    let step = job.report.step.load(Ordering::SeqCst);
    let about = match stage {
        Stage::Steps => job.plan.steps.get(step).map(|step| match step {
            Step::File { path, .. } => format!(" (file {path:?})"),
            step => format!(" ({step:?})"),
        }),
        Stage::Sources => job.plan.sources.get(step).map(|taken| format!(" ({:?})", taken.source)),
        _ => None,
    };
    Refused { stage, about: about.unwrap_or_default(), errno }
}

/// All signals wait while a child shares our memory: no handler may run in it.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn all() -> Self {
        // SAFETY: both sets are locals; the mask is this thread's own.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: puts this thread's own mask back.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

/// A user namespace in which `inside` stands for the host's `outside`, and nothing else is mapped. For root only.
pub(super) fn user_namespace(inside: u32, outside: u32) -> io::Result<OwnedFd> {
    extern "C" fn wait(_: *mut c_void) -> libc::c_int {
        // SAFETY: plain calls. It ends with the server, and holds nothing of the server's meanwhile.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
            libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        }
        loop {
            // SAFETY: waits to be killed.
            unsafe {
                libc::syscall(
                    libc::SYS_ppoll,
                    ptr::null::<c_void>(),
                    0,
                    ptr::null::<c_void>(),
                    ptr::null::<c_void>(),
                    0,
                )
            };
        }
    }
    let stack = Stack::new()?;
    let blocked = BlockedSignals::all();
    // SAFETY: the child only waits, on its own stack, which outlives it.
    let pid = unsafe {
        libc::clone(wait, stack.top(), libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD, ptr::null_mut())
    };
    let error = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(error);
    }
    let line = format!("{inside} {outside} 1");
    let made = std::fs::write(format!("/proc/{pid}/uid_map"), &line)
        .and_then(|()| std::fs::write(format!("/proc/{pid}/gid_map"), &line))
        .and_then(|()| std::fs::File::open(format!("/proc/{pid}/ns/user")));
    kill_and_reap(pid);
    made.map(OwnedFd::from)
}

/// A pidfd of a process.
pub(super) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain call; the descriptor it answers is ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)))
    }
}

/// Sends a signal through a pidfd; a process that has gone is no error.
pub(super) fn signal(process: &OwnedFd, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a plain call without data.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, ptr::null::<c_void>(), 0)
    };
    match io::Error::last_os_error() {
        error if sent < 0 && error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// How a child of ours ended; `None` when it is not ours (or somebody else asked first). Only for ended ones.
pub(super) fn reap(process: &OwnedFd) -> Option<Ended> {
    // SAFETY: the structure is a local that the kernel fills.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let id = process.as_raw_fd().cast_unsigned();
        if libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::WNOHANG) < 0
            || info.si_pid() == 0
        {
            return None;
        }
        Some(match info.si_code {
            libc::CLD_EXITED => Ended::Exit(info.si_status()),
            _ => Ended::Signal(info.si_status()),
        })
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a status.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}
