//! Work beside requests, on tokio.

use std::time::Duration;

use burstflare_ports::clock::{Background, Task};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use crate::tasks::Tasks;

/// Runs tasks on tokio's threads, a bounded number at once.
#[derive(Debug)]
pub struct TokioBackground {
    tasks: Tasks,
    followers: Tasks,
    limit: usize,
}

impl TokioBackground {
    /// At most `limit` tasks at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { tasks: Tasks::new(), followers: Tasks::new(), limit }
    }

    /// Takes nothing more and gives what runs the time to end; answers how many tasks were cut off.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.followers.shutdown(Duration::ZERO).await;
        self.tasks.shutdown(deadline).await
    }
}

impl TokioBackground {
    fn start(&self, tasks: &Tasks, task: Task) -> PortResult<()> {
        if tasks.spawn(self.limit, task) {
            return Ok(());
        }
        let full = format!("{} tasks run already", self.limit);
        Err(PortError::new(ErrorKind::Full, "background.spawn", full))
    }
}

impl Background for TokioBackground {
    fn spawn(&self, task: Task) -> PortResult<()> {
        self.start(&self.tasks, task)
    }

    fn follow(&self, task: Task) -> PortResult<()> {
        self.start(&self.followers, task)
    }
}
