//! What runs between `clone` and `execveat`.
//!
//! As `posix_spawn` does it, the child shares the server's memory until it becomes the agent, while the thread that
//! started it is suspended: nothing is copied, however large the server is. So this code may not allocate, lock,
//! panic, or call anything of libc that concerns other threads (`setresuid` of glibc signals them all; the system
//! call itself concerns the caller alone). It reads a [`Job`] made before, and writes only to its atomics.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use super::kernel::{self, last_errno};
use super::plan::{Descriptors, Plan, ResourceLimit, Source, Stage, Step};

/// What the child leaves behind for the thread that waits.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The machine's first process, as the server sees it.
    pub pid: AtomicI32,
    /// The [`Stage`] that was begun last.
    pub stage: AtomicUsize,
    /// Its step, where the stage has several.
    pub step: AtomicUsize,
    /// The error that ended it, or 0.
    pub errno: AtomicI32,
}

/// Everything the child needs, prepared.
#[derive(Debug)]
pub(super) struct Job {
    /// Files of control groups (version 1) that the machine is born into; only where the server is root.
    pub tasks: Vec<CString>,
    /// The host user the machine gets, where the server is root.
    pub host_user: Option<u32>,
    /// Lines for `uid_map` and `gid_map`.
    pub uid_map: CString,
    /// See `uid_map`.
    pub gid_map: CString,
    /// Namespaces to make.
    pub namespaces: c_int,
    /// An existing folder of the host over which the new root is mounted.
    pub staging: CString,
    /// Options of the new root's tmpfs.
    pub root_options: CString,
    /// What is below the new root.
    pub plan: Plan,
    /// One place per source of the plan; filled by the child.
    pub taken: Vec<AtomicI32>,
    /// Host name inside.
    pub hostname: CString,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// Descriptors.
    pub fds: Descriptors,
    /// The system call filter.
    pub filter: Vec<libc::sock_filter>,
    /// `argv[0]`.
    pub argv0: CString,
    /// Top of the second stack.
    pub second_stack: *mut c_void,
    /// What happened.
    pub report: Report,
}

// prctl(2) takes whole registers, and some operations check the unused ones.
const ZERO: libc::c_ulong = 0;
const ONE: libc::c_ulong = 1;

/// A stage's outcome: an error number.
type Done = Result<(), i32>;

fn checked(result: libc::c_long) -> Done {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The first process of a start by root: becomes the machine's host user, then makes the machine's first process
/// as the server's own child and ends as soon as that one is the agent.
pub(super) extern "C" fn become_host_user(argument: *mut c_void) -> c_int {
    // SAFETY: the server hands over a pointer to a Job that it keeps until both children have gone.
    let job: &Job = unsafe { &*argument.cast::<Job>() };
    job.report.stage.store(Stage::Groups as usize, Ordering::SeqCst);
    // Moving oneself is quick; moving another process makes the whole kernel wait for a grace period.
    let entered = job.tasks.iter().try_for_each(|tasks| write_file(tasks, c"0"));
    let outcome = entered.and_then(|()| {
        job.report.stage.store(Stage::Identity as usize, Ordering::SeqCst);
        job.host_user.map_or(Ok(()), take_identity)?;
        job.report.stage.store(Stage::Namespaces as usize, Ordering::SeqCst);
        let flags = job.namespaces
            | libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PARENT
            | libc::CLONE_PARENT_SETTID;
        // SAFETY: the second stack is the Job's and used by nobody else; the function keeps to this module's rules.
        checked(unsafe {
            libc::clone(become_agent, job.second_stack, flags, argument, job.report.pid.as_ptr()).into()
        })
    });
    if let Err(errno) = outcome {
        job.report.errno.store(errno, Ordering::SeqCst);
    }
    // SAFETY: ends this process without running anything of the server's.
    unsafe { libc::_exit(0) }
}

fn take_identity(user: u32) -> Done {
    // SAFETY: plain system calls on the caller's own credentials; the empty list is not read.
    unsafe {
        checked(libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()))?;
        checked(libc::syscall(libc::SYS_setresgid, user, user, user))?;
        checked(libc::syscall(libc::SYS_setresuid, user, user, user))
    }
}

/// The machine's first process.
pub(super) extern "C" fn become_agent(argument: *mut c_void) -> c_int {
    // SAFETY: as in `become_host_user`.
    let job: &Job = unsafe { &*argument.cast::<Job>() };
    let Err(errno) = build(job);
    job.report.errno.store(errno, Ordering::SeqCst);
    // SAFETY: ends this process without running anything of the server's.
    unsafe { libc::_exit(127) }
}

fn build(job: &Job) -> Result<std::convert::Infallible, i32> {
    let stage = |stage: Stage| job.report.stage.store(stage as usize, Ordering::SeqCst);
    stage(Stage::Mapping);
    map_user(job)?;
    stage(Stage::Sources);
    take_sources(job)?;
    stage(Stage::NewRoot);
    kernel::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")?;
    kernel::mount(c"tmpfs", &job.staging, c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV, &job.root_options)?;
    // SAFETY: C strings that live as long as the Job.
    checked(unsafe { libc::chdir(job.staging.as_ptr()) }.into())?;
    // Modes are given in full.
    // SAFETY: changes this process alone (no CLONE_FS).
    unsafe { libc::umask(0) };
    stage(Stage::Steps);
    for (index, step) in job.plan.steps.iter().enumerate() {
        job.report.step.store(index, Ordering::SeqCst);
        take_step(job, step)?;
    }
    stage(Stage::Pivot);
    pivot()?;
    stage(Stage::Network);
    name_host(&job.hostname)?;
    if job.namespaces & libc::CLONE_NEWNET != 0 {
        loopback_up()?;
    }
    stage(Stage::Limits);
    for limit in &job.limits {
        lower_limit(*limit)?;
    }
    stage(Stage::Descriptors);
    let exe = place_descriptors(job.fds)?;
    stage(Stage::Privileges);
    give_up_privileges()?;
    reset_signals();
    // The agent makes its own folders and files; 022 is what programs expect.
    // SAFETY: these concern this process alone: a session of its own, the usual mask.
    unsafe {
        libc::setsid();
        libc::umask(0o022);
    }
    stage(Stage::Filter);
    install_filter(&job.filter)?;
    stage(Stage::Exec);
    let argv: [*const c_char; 2] = [job.argv0.as_ptr(), ptr::null()];
    let envp: [*const c_char; 1] = [ptr::null()];
    // SAFETY: both vectors end with NULL and live until the call; it returns only when it fails.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            exe,
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Err(last_errno())
}

fn map_user(job: &Job) -> Done {
    // After the change of user the process is not dumpable and its /proc files belong to root.
    // SAFETY: the flag lies in the shared memory; the server puts its own value back.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, ONE, ZERO, ZERO, ZERO) }.into())?;
    // Who may not have capabilities outside may map a group only after giving up setgroups.
    write_file(c"/proc/self/setgroups", c"deny")?;
    write_file(c"/proc/self/uid_map", &job.uid_map)?;
    write_file(c"/proc/self/gid_map", &job.gid_map)
}

fn write_file(path: &CStr, content: &CStr) -> Done {
    // SAFETY: C strings of known length; the descriptor is ours and closed at once.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(last_errno());
        }
        let written = libc::write(fd, content.as_ptr().cast(), content.count_bytes());
        let outcome = if written < 0 { Err(last_errno()) } else { Ok(()) };
        libc::close(fd);
        outcome
    }
}

fn take_sources(job: &Job) -> Done {
    for (index, (taken, place)) in job.plan.sources.iter().zip(&job.taken).enumerate() {
        job.report.step.store(index, Ordering::SeqCst);
        let fd = match &taken.source {
            Source::Path(path) => {
                let fd = kernel::clone_mount(libc::AT_FDCWD, path)?;
                kernel::restrict(fd, c"", taken.attributes, true)?;
                fd
            }
            Source::Mount(mount) => std::os::fd::AsRawFd::as_raw_fd(mount),
        };
        place.store(fd, Ordering::SeqCst);
    }
    Ok(())
}

fn take_step(job: &Job, step: &Step) -> Done {
    match step {
        // SAFETY: in this and the following, C strings that live as long as the Job.
        Step::Folder { path, mode } => checked(unsafe { libc::mkdir(path.as_ptr(), *mode) }.into()),
        Step::File { path, content } => make_file(path, content),
        // SAFETY: as above.
        Step::Link { path, target } => {
            checked(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) }.into())
        }
        Step::Mount { kind, path, flags, options } => kernel::mount(kind, path, kind, *flags, options),
        Step::Attach { source, path } => {
            let fd = job.taken.get(*source).map_or(-1, |place| place.load(Ordering::SeqCst));
            kernel::attach_mount(fd, path)
        }
        Step::Restrict { path, attributes } => kernel::restrict(libc::AT_FDCWD, path, *attributes, false),
        Step::Cover { from, path, attributes } => match cover(from, path, *attributes) {
            Err(libc::ENOENT) => Ok(()),
            outcome => outcome,
        },
        // SAFETY: as above.
        Step::Detach { path } => checked(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into()),
        // SAFETY: as above.
        Step::Remove { path } => checked(unsafe { libc::rmdir(path.as_ptr()) }.into()),
    }
}

fn make_file(path: &CStr, content: &[u8]) -> Done {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: a C string, and a buffer of the length given; the descriptor is ours.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags, 0o644 as libc::c_uint);
        if fd < 0 {
            return Err(last_errno());
        }
        let written = libc::write(fd, content.as_ptr().cast(), content.len());
        libc::close(fd);
        match usize::try_from(written) {
            Ok(length) if length == content.len() => Ok(()),
            Ok(_) => Err(libc::ENOSPC),
            Err(_) => Err(last_errno()),
        }
    }
}

fn cover(from: &CStr, path: &CStr, attributes: u64) -> Done {
    // A copy of a mount that finds no place costs a grace period of the kernel when it is dropped again.
    // SAFETY: a C string.
    checked(unsafe { libc::access(path.as_ptr(), libc::F_OK) }.into())?;
    let fd = kernel::clone_mount(libc::AT_FDCWD, from)?;
    let outcome = kernel::restrict(fd, c"", attributes, true).and_then(|()| kernel::attach_mount(fd, path));
    // SAFETY: the descriptor is ours.
    unsafe { libc::close(fd) };
    outcome
}

/// The working folder becomes the root, and the old one goes (see pivot_root(2), "pivot_root(".", ".")").
fn pivot() -> Done {
    // SAFETY: static C strings.
    unsafe {
        checked(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        checked(libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into())?;
        checked(libc::chdir(c"/".as_ptr()).into())
    }
}

fn name_host(name: &CStr) -> Done {
    // SAFETY: a C string and its length.
    checked(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }.into())
}

fn loopback_up() -> Done {
    // SAFETY: a zeroed ifreq is valid; the descriptor is ours; the call reads the request only.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(last_errno());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = byte.cast_signed();
        }
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
        let outcome = checked(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request).into());
        libc::close(socket);
        outcome
    }
}

fn lower_limit(wanted: ResourceLimit) -> Done {
    // SAFETY: both structures live through the calls.
    unsafe {
        let mut own: libc::rlimit64 = std::mem::zeroed();
        let none = ptr::null::<libc::rlimit64>();
        checked(libc::syscall(libc::SYS_prlimit64, 0, wanted.resource, none, &raw mut own))?;
        let hard = wanted.hard.min(own.rlim_max);
        let limit = libc::rlimit64 { rlim_cur: wanted.soft.min(hard), rlim_max: hard };
        checked(libc::syscall(
            libc::SYS_prlimit64,
            0,
            wanted.resource,
            &raw const limit,
            ptr::null::<libc::rlimit64>(),
        ))
    }
}

/// 0 to 2 standard streams, 3 boot pipe, 4 socket, 5 the program (closed by the kernel); nothing else.
fn place_descriptors(fds: Descriptors) -> Result<RawFd, i32> {
    const ABOVE: c_int = 64;
    // SAFETY: descriptors of this process's own table (no CLONE_FILES).
    unsafe {
        let mut high = [fds.null, fds.log, fds.log, fds.boot, fds.socket, fds.exe];
        for fd in &mut high {
            *fd = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, ABOVE);
            if *fd < 0 {
                return Err(last_errno());
            }
        }
        for (place, fd) in (0..).zip(high) {
            let flags = if place == 5 { libc::O_CLOEXEC } else { 0 };
            checked(libc::dup3(fd, place, flags).into())?;
        }
        checked(libc::syscall(libc::SYS_close_range, 6, c_int::MAX, 0))?;
    }
    Ok(5)
}

fn give_up_privileges() -> Done {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    const VERSION_3: u32 = 0x2008_0522;
    // NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each locked.
    const SECURE_BITS: libc::c_ulong = 0b1100_1111;
    // SAFETY: plain calls about this process; header and data are laid out as capset(2) says.
    unsafe {
        checked(libc::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, ZERO, ZERO, ZERO).into())?;
        for capability in 0..64 as libc::c_ulong {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, ZERO, ZERO, ZERO) < 0 {
                match last_errno() {
                    // The kernel knows no more of them.
                    libc::EINVAL if capability > 0 => break,
                    errno => return Err(errno),
                }
            }
        }
        checked(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, ZERO, ZERO, ZERO).into())?;
        let header = Header { version: VERSION_3, pid: 0 };
        let none = [0_u32; 6];
        checked(libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()))?;
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ONE, ZERO, ZERO, ZERO).into())
    }
}

/// Handlers go with exec, but what is ignored or blocked stays so: the agent begins with a clean table.
fn reset_signals() {
    // SAFETY: the tables are this process's own (no CLONE_SIGHAND). Numbers that have no handler are refused, which does no harm.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

fn install_filter(filter: &[libc::sock_filter]) -> Done {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or_default(),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to instructions that live through the call; the kernel checks and copies them.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
}
