//! Workflows: named steps that go on where they were cut off.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::PortResult;
use crate::id::Id;
use crate::record::{Build, Workspace};

/// One attempt of a build, driven step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The build.
    pub build: Id<Build>,
    /// The attempt.
    pub attempt: u32,
}

impl Run {
    /// A name that is unique among all runs: `bld_…-1`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.build, self.attempt)
    }
}

/// Starts workflows; the engine drives them through [`crate::drive::StepRunner`].
#[async_trait]
pub trait Workflows: Send + Sync + 'static {
    /// Records the run durably and begins it. One that exists already is left as it is.
    async fn start(&self, run: Run) -> PortResult<()>;
}
