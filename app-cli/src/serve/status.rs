//! What a running server notes for doctor, beside its records.

use std::fs;
use std::path::Path;

use burstflare_core::ControlPlane;
use burstflare_ports::error::PortResult;
use burstflare_ports::machine::RuntimeProfile;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Machines;
use crate::place;

const NAME: &str = "status.json";

/// The state of a server, as far as it is not a matter of one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Where it answers.
    pub url: String,
    /// What machines run on.
    pub runtime: RuntimeProfile,
    /// What was found out about this host, line by line.
    pub checks: Value,
    /// Effects that were not delivered yet.
    pub backlog: u64,
    /// What is past its deadline: id, state, since when.
    pub stuck: Vec<(String, String, String)>,
}

impl Status {
    /// How it is now.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn now(plane: &ControlPlane, machines: &Machines, url: &str) -> PortResult<Self> {
        let stuck = plane.stuck().await?;
        Ok(Self {
            pid: std::process::id(),
            url: url.to_owned(),
            runtime: machines.profile(),
            checks: serde_json::to_value(&machines.checks).unwrap_or_default(),
            backlog: plane.ports().store.backlog().await?,
            stuck: stuck.into_iter().map(|item| (item.id, item.state, item.since.to_string())).collect(),
        })
    }

    /// Notes it. Failing costs doctor a line and nothing else.
    pub fn write(&self, data_dir: &Path) {
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::other)
            .and_then(|bytes| place::replace(&data_dir.join(NAME), &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!(%error, "the status could not be written");
        }
    }

    /// Takes the note away when the server ends.
    pub fn remove(data_dir: &Path) {
        let _ = fs::remove_file(data_dir.join(NAME));
    }

    /// The note of a server that lives; one that was killed leaves a note of a process that is gone.
    #[must_use]
    pub fn read(data_dir: &Path) -> Option<Self> {
        let bytes = fs::read(data_dir.join(NAME)).ok()?;
        let status: Self = serde_json::from_slice(&bytes).ok()?;
        Path::new("/proc").join(status.pid.to_string()).exists().then_some(status)
    }
}
