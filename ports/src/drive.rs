//! Where adapters call back: core implements these, the apps hand them over.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::PortResult;
use crate::id::Id;
use crate::queue::Job;
use crate::record::{Session, Workspace};
use crate::time::Timestamp;
use crate::workflow::Run;

/// What becomes of a delivered job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// Done; it may go.
    Done,
    /// Deliver it again after this time.
    Retry(Duration),
}

/// Consumes the queue. Deliveries may repeat; handling is idempotent.
#[async_trait]
pub trait JobHandler: Send + Sync + 'static {
    /// Handles one delivery; `attempt` counts from 1. An error is a retry with the queue's back-off.
    async fn handle(&self, job: &Job, attempt: u32) -> PortResult<JobOutcome>;
    /// The job was delivered in vain as often as the queue allows and is set aside.
    async fn dead(&self, job: &Job) -> PortResult<()>;
}

/// What becomes of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// Go on with the next step.
    Next,
    /// The run is over: it succeeded, failed for good or was given up; the record says which.
    End,
}

/// Runs the named steps of a workflow.
#[async_trait]
pub trait StepRunner: Send + Sync + 'static {
    /// The names of a run's steps, in order. The same run always has the same steps.
    async fn steps(&self, run: &Run) -> PortResult<Vec<String>>;
    /// Runs a step. It may be called again for a step that was cut off: it is idempotent.
    /// An error is retried by the engine with back-off, then given to [`StepRunner::abandon`].
    async fn step(&self, run: &Run, name: &str) -> PortResult<StepOutcome>;
    /// The engine gives the run up; `reason` is the last error.
    async fn abandon(&self, run: &Run, reason: &str) -> PortResult<()>;
}

/// Brings one session closer to its goal. The host calls it for one session at a time, whenever it was woken, and at the
/// moment it asked for.
#[async_trait]
pub trait SessionActor: Send + Sync + 'static {
    /// Looks at the record and does what is next; answers when to call again without being woken. An error is
    /// tried again with the host's back-off.
    async fn tend(&self, workspace: Id<Workspace>, session: Id<Session>) -> PortResult<Option<Timestamp>>;
}
