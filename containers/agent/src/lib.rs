#![doc = include_str!("../README.md")]

mod activity;
mod agent;
pub mod archive;
mod auth;
mod body;
mod boot;
mod bundle;
mod container;
mod egress;
mod exec;
mod files;
mod folder;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
mod metrics;
mod port;
mod process;
mod pty;
mod reaper;
mod reply;
mod secrets;
mod server;
mod sftp;
mod shutdown;
#[doc(hidden)]
pub mod snapshot;
mod ssh;
mod terminal;
mod tree;
mod websocket;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use burstflare_ports::wire::Boot;

/// Where this process was started as an agent (`argv[0]` is [`burstflare_ports::wire::AGENT_ARGV0`]), runs it and
/// exits; otherwise returns at once. To be called first in `main`, before any thread exists.
pub fn main_if_reexecuted() {
    let name = std::env::args_os().next();
    if name.is_some_and(|name| name.as_bytes() == burstflare_ports::wire::AGENT_ARGV0.as_bytes()) {
        std::process::exit(run());
    }
}

/// Runs the agent until the machine ends; the answer is the process's exit status. Takes over fd 3 (the boot pipe)
/// and fd 4 (the listening socket), so it must be called before anything else opens a file.
#[must_use]
pub fn run() -> i32 {
    live(boot::take)
}

/// The same as the first process of a container: listens on the unix socket of this path, or on TCP port
/// [`burstflare_ports::wire::AGENT_PORT`], takes the boot message from [`burstflare_ports::wire::BOOT_VARIABLE`] or else from standard input up to its end, and where it is
/// root makes the folders and becomes uid 1000. The image may lack everything: a shell, a passwd file, the folders.
#[must_use]
pub fn run_in_container(socket: Option<std::path::PathBuf>) -> i32 {
    live(move || container::take(socket.as_deref()))
}

fn live(take: impl FnOnce() -> io::Result<(Boot, OwnedFd)>) -> i32 {
    boot::harden();
    let subscriber = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).finish();
    // Only fails where an embedder has set its own, which is then the one to use.
    let _ = tracing::subscriber::set_global_default(subscriber);
    match take().and_then(|(boot, listener)| agent::Agent::live(boot, listener)) {
        Ok(()) => 0,
        Err(problem) => {
            tracing::error!(%problem, "the agent ends");
            1
        }
    }
}
