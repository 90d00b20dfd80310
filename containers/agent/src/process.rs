//! How processes of the user are born: environment, working folder, own session, nothing inherited.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use burstflare_ports::wire::Boot;
use rustix::process::{Resource, Rlimit};

use crate::secrets::Given;

/// Behind the folders of the boot message.
const STANDARD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is said where a shell is asked for and the image has none.
pub(crate) const NO_SHELL: &str =
    "This machine's image has no shell. Name a program of it: `flare ssh SESSION -- /program ARGUMENT`.";

/// What every process of the user finds.
pub(crate) struct Surroundings {
    env: BTreeMap<String, String>,
    cwd: String,
    /// The user's shell, where the image has one.
    pub(crate) shell: Option<&'static str>,
    open_files: Rlimit,
    /// Values that it gets besides.
    pub(crate) secrets: Given,
}

/// What the process is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Pipes or files.
    No,
    /// Its standard input is a terminal, which becomes its controlling one.
    Controlling,
}

impl Surroundings {
    /// From the boot message, and the limit of open files that we were given ourselves.
    pub(crate) fn new(boot: &Boot, open_files: Rlimit) -> Self {
        let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|shell| Path::new(shell).exists());
        let mut env: BTreeMap<String, String> = BTreeMap::new();
        let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
        set("LANG", "C.UTF-8");
        set("TERM", "dumb");
        set("HOSTNAME", &boot.hostname);
        if let Some(egress) = &boot.egress {
            let proxy = format!("http://{}", egress.listen);
            for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
                set(name, &proxy);
            }
            for name in ["NO_PROXY", "no_proxy"] {
                set(name, "localhost,127.0.0.1,::1");
            }
        }
        for (name, value) in &boot.env {
            set(name, value);
        }
        // Who the user is and where its tools lie is not the template's to say; but it may extend PATH.
        let path = boot.env.get("PATH").map_or(STANDARD_PATH, String::as_str);
        let tools: Vec<&str> = boot.path.iter().map(String::as_str).chain([path]).collect();
        set("PATH", &tools.join(":"));
        set("HOME", &boot.home);
        set("USER", "flare");
        set("LOGNAME", "flare");
        set("SHELL", shell.unwrap_or("/bin/sh"));
        let secrets = Given::new(PathBuf::from(&boot.run));
        Self {
            secrets,
            env,
            cwd: boot.roots.first().cloned().unwrap_or_else(|| "/".into()),
            shell,
            open_files,
        }
    }

    /// Where shells, commands and file transfers begin.
    pub(crate) fn cwd(&self) -> &str {
        if Path::new(&self.cwd).is_dir() { &self.cwd } else { "/" }
    }

    /// A command with all of that. A program without a slash is looked up in the PATH that the process gets.
    pub(crate) fn command(
        &self,
        program: impl AsRef<OsStr>,
        cwd: Option<&str>,
        env: &BTreeMap<String, String>,
        terminal: Terminal,
    ) -> Command {
        let mut command = Command::new(program);
        let cwd = cwd.unwrap_or_else(|| self.cwd());
        command.env_clear().envs(&self.env);
        self.secrets.put_into(&mut command);
        command.envs(env).current_dir(cwd);
        let open_files = self.open_files;
        // SAFETY: the closure runs between fork and exec and only makes system calls; it allocates nothing and
        // takes no lock.
        unsafe {
            command.pre_exec(move || be_born(terminal, &open_files));
        }
        command
    }
}

fn be_born(terminal: Terminal, open_files: &Rlimit) -> io::Result<()> {
    rustix::process::setsid()?;
    if terminal == Terminal::Controlling {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    for signal in 1..=64 {
        // The system call, because glibc refuses to touch signals that it keeps for itself, also inherited ones.
        // An action of zeros is the default one.
        let default = [0u64; 4];
        // SAFETY: only sets dispositions; numbers that cannot be set answer EINVAL. 8 is the size of the kernel's set.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8);
        }
    }
    // Marked, not closed: std reports a failing exec through a descriptor of its own.
    // SAFETY: the call takes numbers only.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked != 0 {
        for number in 3..4096 {
            // SAFETY: on a number that is no descriptor it answers EBADF.
            unsafe {
                libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    let _ = rustix::process::setrlimit(Resource::Nofile, *open_files);
    Ok(())
}
