//! Starts take turns: a few begin at a time, in the order in which they were asked for.
//!
//! A start is the work of the processors. A hundred of them at once all end together, at the end; a few at a time end one
//! after the other, so that half of them wait half as long, and none longer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Starts that begin at a time, for each processor.
const EACH: usize = 2;
/// A machine whose agent is not heard of by then holds nobody up any longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The places of starts.
#[derive(Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(processors * EACH)))
    }

    /// Waits for a place. Cancel-safe: who goes away leaves the queue.
    pub(crate) async fn take(&self) -> PortResult<Turn> {
        let closed =
            |_| PortError::new(ErrorKind::Internal, "machine.start", "no machine is started any more");
        Arc::clone(&self.0).acquire_owned().await.map(Turn).map_err(closed)
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// Where a machine keeps its turn until its agent answers for the first time.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Option<Turn>>);

impl Kept {
    pub(crate) fn keep(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
    }

    /// Lets the next one begin.
    pub(crate) fn pass_on(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_comes_back_when_the_agent_answers_and_when_its_machine_is_gone() {
        let turns = Turns(Arc::new(Semaphore::new(1)));
        let kept = Kept::default();
        kept.keep(turns.take().await.expect("a place"));
        assert_eq!(turns.0.available_permits(), 0);
        kept.pass_on();
        kept.pass_on();
        assert_eq!(turns.0.available_permits(), 1);
        kept.keep(turns.take().await.expect("a place"));
        drop(kept);
        assert_eq!(turns.0.available_permits(), 1);
    }
}
