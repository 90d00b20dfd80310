//! `POST /v1/hooks/start`: the template's `on_start`, once in this life.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::sync::{Arc, PoisonError};

use crate::agent::Agent;
use crate::process::Terminal;
use crate::reply::{Refused, Reply, done};

/// Where the hook's output goes: not persisted, readable by the user.
const LOG: &str = "/tmp/flare-on-start.log";

/// Starts the hook in the background. A second call finds it gone and does nothing.
pub(crate) fn start(agent: &Arc<Agent>) -> Result<Reply, Refused> {
    let hook = agent.on_start.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(hook) = hook else { return Ok(done()) };
    let mut command = agent.surroundings.command("sh", None, &BTreeMap::new(), Terminal::No);
    let log = || log().map_or_else(|_| Stdio::null(), Stdio::from);
    command.arg("-c").arg(hook).stdin(Stdio::null()).stdout(log()).stderr(log());
    agent.children.start(&mut command)?;
    Ok(done())
}

fn log() -> std::io::Result<File> {
    // The folder is the user's to fill: a link in this place is not followed.
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(LOG)
}
