//! The program wrangler: found, asked for its version, run. What it has to keep to itself it gets by its environment.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Keys;
use crate::command::ssh::find_program;
use crate::exit::{Exit, Failure};

/// How long a program may take to say its version.
const VERSION: Duration = Duration::from_secs(60);
/// How many seconds wrangler may take to end when it is told to.
const END: i64 = 5;

/// A program and its version.
#[derive(Debug)]
pub struct Tool {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub version: String,
}

impl Tool {
    /// Finds a program and asks it.
    ///
    /// # Errors
    /// When it cannot be run. `None` where it is not there.
    pub async fn find(path: Option<PathBuf>) -> Result<Option<Self>, Failure> {
        let Some(path) = path else { return Ok(None) };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::local(format_args!("{} --version", path.display()), error)
        };
        let mut command = Command::new(&path);
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        command.env("WRANGLER_HIDE_BANNER", "true").env("WRANGLER_SEND_METRICS", "false");
        let output = timeout(VERSION, command.output()).await;
        let output = output.map_err(|_| failed(&"no answer"))?.map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&output.status));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        Ok(Some(Self { path, version: version.trim_start_matches('v').to_owned() }))
    }

    /// Whether it is at least of this major and minor version.
    #[must_use]
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }
}

/// Wrangler.
#[derive(Debug)]
pub struct Wrangler {
    path: PathBuf,
}

impl Wrangler {
    /// Where it is: installed beside the description, or on PATH.
    #[must_use]
    pub fn locate(folder: &Path) -> Option<PathBuf> {
        let beside = folder.join("node_modules/.bin/wrangler");
        if beside.is_file() { Some(beside) } else { find_program("wrangler") }
    }

    /// The one that is there.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(folder: &Path) -> Result<Self, Failure> {
        let path = Self::locate(folder).ok_or_else(|| {
            Failure::new(Exit::NotFound, "wrangler is not there").hint(
                "Install it beside cloudflare.toml: `npm install wrangler@4`; `flare cloudflare verify` shows what is found.",
            )
        })?;
        Ok(Self { path })
    }

    /// Runs it to its end, what it says on standard error. It is asked nothing and asks nothing. When this future is
    /// dropped, it is told to end.
    ///
    /// # Errors
    /// When it cannot be run, fails, or takes longer than `within`.
    pub async fn run(&self, words: &[&str], keys: Option<&Keys>, within: Duration) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::local("wrangler", error);
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(|error| failed(&error))?;
        let mut command = Command::new(&self.path);
        command
            .args(words)
            .stdin(Stdio::null())
            // Standard output is for our own result.
            .stdout(Stdio::from(stderr))
            .env_remove("TURNSTILE_SECRET_KEY")
            .env("WRANGLER_SEND_METRICS", "false")
            .env("CI", "1");
        match keys {
            Some(keys) => command
                .env("CLOUDFLARE_ACCOUNT_ID", &keys.account)
                .env("CLOUDFLARE_API_TOKEN", keys.token.expose()),
            None => command.env_remove("CLOUDFLARE_API_TOKEN"),
        };
        let mut running = Running(command.spawn().map_err(|error| failed(&error))?);
        let status = timeout(within, running.0.wait()).await.map_err(|_| {
            Failure::new(Exit::Timeout, "wrangler took too long").hint("`--timeout` gives it more time.")
        })?;
        let status = status.map_err(|error| failed(&error))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(Exit::Failed, format!("wrangler failed ({status})"))
            .hint("What it said stands above; what was deployed before goes on as it was."))
    }
}

/// A child that does not outlive us by more than a moment.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do where it has ended and was waited for.
        let Some(pid) = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else {
            return;
        };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        let _ = pidfd_send_signal(&process, Signal::TERM);
        let wait = Timespec { tv_sec: END, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&wait)) == Ok(1) {
            return;
        }
        let _ = self.0.start_kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_numbers() {
        let tool = |version: &str| Tool { path: PathBuf::new(), version: version.to_owned() };
        assert!(tool("4.164.0").at_least(4, 164) && tool("5.0.0").at_least(4, 164));
        assert!(!tool("4.99.1").at_least(4, 164) && !tool("what").at_least(4, 0));
    }
}
