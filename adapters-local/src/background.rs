//! Work beside requests, on tokio.

use std::time::Duration;

use burstflare_ports::clock::{Background, Task};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use crate::tasks::Tasks;

/// Runs tasks on tokio's threads, a bounded number at once.
#[derive(Debug)]
pub struct TokioBackground {
    tasks: Tasks,
    limit: usize,
}

impl TokioBackground {
    /// At most `limit` tasks at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { tasks: Tasks::new(), limit }
    }

    /// Takes nothing more and gives what runs the time to end; answers how many tasks were cut off.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.tasks.shutdown(deadline).await
    }
}

impl Background for TokioBackground {
    fn spawn(&self, task: Task) -> PortResult<()> {
        if self.tasks.spawn(self.limit, task) {
            Ok(())
        } else {
            Err(PortError::new(
                ErrorKind::Full,
                "background.spawn",
                format!("{} tasks run already", self.limit),
            ))
        }
    }
}
