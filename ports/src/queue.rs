//! Jobs: work that is delivered at least once, again after a failure, and set aside after too many.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::PortResult;
use crate::id::Id;
use crate::record::{Build, Workspace};

/// Deliveries of one job before it is set aside.
pub const MAX_DELIVERIES: u32 = 5;

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Begin the next attempt of a build.
    RunBuild {
        /// The workspace.
        workspace: Id<Workspace>,
        /// The build.
        build: Id<Build>,
    },
}

/// Takes jobs.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Keeps a job durably and delivers it after `delay`. An equal job that still waits may be merged with it.
    async fn enqueue(&self, job: &Job, delay: Duration) -> PortResult<()>;
}
