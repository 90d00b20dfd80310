use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::locked;
use crate::clock::Clock;
use crate::drive::JobOutcome;
use crate::error::PortResult;
use crate::queue::{Job, MAX_DELIVERIES, Queue};
use crate::time::Timestamp;

/// A job in somebody's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Names it in the queue.
    pub number: u64,
    /// The job.
    pub job: Job,
    /// Counts its deliveries, from 1.
    pub attempt: u32,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Done,
    /// It comes again at this moment.
    Again(Timestamp),
    /// It was delivered in vain too often: call [`crate::drive::JobHandler::dead`].
    Dead,
}

/// Jobs that wait. Whoever drives takes one, calls the handler and tells the outcome.
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    /// By when they are due, then in the order of coming.
    waiting: BTreeMap<(Timestamp, u64), (Job, u32)>,
    in_hand: BTreeMap<u64, (Job, u32)>,
    dead: Vec<Job>,
}

impl MemoryQueue {
    /// The pause behind the first failure; it doubles.
    pub const PAUSE: Duration = Duration::from_secs(1);

    /// A queue by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::new(State::default()) }
    }

    /// Takes the job that is due longest.
    pub fn take_due(&self, now: Timestamp) -> Option<Delivery> {
        let mut state = locked(&self.state);
        let key = *state.waiting.keys().next().filter(|(due_at, _)| *due_at <= now)?;
        let (job, deliveries) = state.waiting.remove(&key)?;
        state.in_hand.insert(key.1, (job.clone(), deliveries + 1));
        Some(Delivery { number: key.1, job, attempt: deliveries + 1 })
    }

    /// Tells what came of a delivery. One that was given up by [`MemoryQueue::crash`] meanwhile is `Done` and comes again.
    pub fn finish(&self, number: u64, outcome: &PortResult<JobOutcome>, now: Timestamp) -> Fate {
        let mut state = locked(&self.state);
        let Some((job, deliveries)) = state.in_hand.remove(&number) else { return Fate::Done };
        let pause = match outcome {
            Ok(JobOutcome::Done) => return Fate::Done,
            Ok(JobOutcome::Retry(pause)) => *pause,
            Err(_) => Self::PAUSE * (1 << deliveries.saturating_sub(1).min(6)),
        };
        if deliveries >= MAX_DELIVERIES {
            state.dead.push(job);
            return Fate::Dead;
        }
        let due_at = now.after(pause);
        state.waiting.insert((due_at, number), (job, deliveries));
        Fate::Again(due_at)
    }

    /// Gives back every job that is in somebody's hands, as the end of a process does; they count as delivered.
    pub fn crash(&self) {
        let mut state = locked(&self.state);
        let now = self.clock.now();
        for (number, job) in std::mem::take(&mut state.in_hand) {
            state.waiting.insert((now, number), job);
        }
    }

    /// When the next job is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        locked(&self.state).waiting.keys().next().map(|(due_at, _)| *due_at)
    }

    /// Jobs that wait or are in somebody's hands.
    #[must_use]
    pub fn backlog(&self) -> usize {
        let state = locked(&self.state);
        state.waiting.len() + state.in_hand.len()
    }

    /// Jobs that were set aside.
    #[must_use]
    pub fn dead(&self) -> Vec<Job> {
        locked(&self.state).dead.clone()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn enqueue(&self, job: &Job, delay: Duration) -> PortResult<()> {
        let due_at = self.clock.now().after(delay);
        let mut state = locked(&self.state);
        state.count += 1;
        let number = state.count;
        state.waiting.insert((due_at, number), (job.clone(), 0));
        Ok(())
    }
}
