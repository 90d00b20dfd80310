//! Time, chance and background work: what a pure core has to be given.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::PortResult;
use crate::time::Timestamp;

/// Reads time and waits.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The current moment; may go back when the host's clock is set.
    fn now(&self) -> Timestamp;
    /// Waits; dropping the future ends the wait.
    async fn sleep(&self, span: Duration);
}

/// Makes randomness fit for secrets.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer. A host without randomness fails here, it never answers less.
    fn fill(&self, buffer: &mut [u8]) -> PortResult<()>;
}

/// Work that outlives the request that started it.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs work beside requests.
pub trait Background: Send + Sync + 'static {
    /// Starts a task. The number of running tasks is bounded: past it the answer is `Full` and the task is
    /// dropped, which is safe because everything that must happen also stands in the outbox.
    fn spawn(&self, task: Task) -> PortResult<()>;
    /// As [`Background::spawn`], for a task that only follows what happens and may be dropped at any moment: the host's end
    /// does not wait for it.
    fn follow(&self, task: Task) -> PortResult<()> {
        self.spawn(task)
    }
}
