//! Tasks that end when their owner says so, within a deadline.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A set of tasks with a common end.
#[derive(Debug)]
pub(crate) struct Tasks {
    stop: watch::Sender<bool>,
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { stop: watch::Sender::new(false), running: Mutex::new(JoinSet::new()) }
    }

    /// Starts a task, unless the end has come or `limit` tasks run; answers whether it did.
    pub(crate) fn spawn(&self, limit: usize, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut running = locked(&self.running);
        while running.try_join_next().is_some() {}
        if self.stopping() || running.len() >= limit {
            return false;
        }
        running.spawn(task);
        true
    }

    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for the end.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender is ours: waiting cannot fail.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Lets nothing new begin, gives what runs the time to end and cuts off the rest; answers how many that were.
    pub(crate) async fn shutdown(&self, deadline: Duration) -> usize {
        self.stop.send_replace(true);
        let mut running = std::mem::take(&mut *locked(&self.running));
        let all = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return 0;
        }
        let left = running.len();
        running.shutdown().await;
        left
    }
}

/// A lock whose holders cannot leave half a change behind: they only move whole values.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls into core: a panic there is an error of this call and never the end of the host's loop.
pub(crate) async fn caught<T>(
    operation: &'static str,
    call: impl Future<Output = PortResult<T>> + Send,
) -> PortResult<T> {
    AssertUnwindSafe(call)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(PortError::new(ErrorKind::Internal, operation, "it panicked")))
}

/// Growing pauses between tries, half of each by chance, so that what failed together does not come back together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) cap: Duration,
}

impl Backoff {
    /// The pause behind the `failures`-th failure in a row, from 1.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        let chance = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
        full.mul_f64(0.5 + chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
        for (failures, least, most) in
            [(1, 500, 1_000), (2, 1_000, 2_000), (7, 30_000, 60_000), (99, 30_000, 60_000)]
        {
            let pause = backoff.pause(failures).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_then_cuts_off() {
        let tasks = Tasks::new();
        assert!(tasks.spawn(2, tokio::time::sleep(Duration::from_secs(1))));
        assert!(tasks.spawn(2, std::future::pending()));
        assert!(!tasks.spawn(2, async {}), "the bound holds");
        assert_eq!(tasks.shutdown(Duration::from_secs(2)).await, 1);
        assert!(!tasks.spawn(2, async {}), "nothing begins behind the end");
    }
}
