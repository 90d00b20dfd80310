//! The queue under faults: what was enqueued, however often, is handled at least once, and nothing stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::queue::{QueueOptions, SqliteQueue};
use burstflare_ports::drive::{JobHandler, JobOutcome};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::memory::ManualClock;
use burstflare_ports::queue::{Job, Queue};
use burstflare_ports::record::Build;
use burstflare_ports::time::Timestamp;

use super::fault::{Faults, at_last};
use super::place;

const JOBS: u8 = 40;

struct FaultyQueue {
    inner: SqliteQueue,
    faults: Faults,
}

#[async_trait]
impl Queue for FaultyQueue {
    async fn enqueue(&self, job: &Job, delay: Duration) -> PortResult<()> {
        self.faults.around("queue.enqueue", || self.inner.enqueue(job, delay)).await
    }
}

/// Its answers are lost, too: the job was done and comes again.
struct Forgetful {
    done: Mutex<BTreeMap<Id<Build>, u32>>,
    dead: Mutex<u32>,
    faults: Faults,
}

#[async_trait]
impl JobHandler for Forgetful {
    async fn handle(&self, job: &Job, _: u32) -> PortResult<JobOutcome> {
        let Job::RunBuild { build, .. } = job;
        if self.faults.below(10) == 0 {
            return Err(PortError::new(ErrorKind::Unavailable, "job", "made up"));
        }
        *self.done.lock().expect("the list").entry(*build).or_default() += 1;
        match self.faults.below(10) {
            0 => Err(PortError::new(ErrorKind::Timeout, "job", "made up")),
            1 => Ok(JobOutcome::Retry(Duration::from_secs(1))),
            _ => Ok(JobOutcome::Done),
        }
    }

    async fn dead(&self, _: &Job) -> PortResult<()> {
        *self.dead.lock().expect("the count") += 1;
        Ok(())
    }
}

fn job(number: u8) -> Job {
    let at = Timestamp::from_millis(1);
    Job::RunBuild { workspace: Id::new(at, [1; 10]), build: Id::new(at, [number; 10]) }
}

#[tokio::test]
async fn nothing_is_lost_by_faults_around_the_queue() {
    for seed in 0..3 {
        let place = place().await;
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let options = QueueOptions { deadline: Duration::from_secs(1 << 30), ..QueueOptions::default() };
        let inner = SqliteQueue::new(place.database.clone(), clock.clone(), options);
        let queue = FaultyQueue { inner: inner.clone(), faults: Faults::new(seed) };
        let handler = Arc::new(Forgetful {
            done: Mutex::default(),
            dead: Mutex::default(),
            faults: Faults::new(seed + 100),
        });
        inner.run(handler.clone());
        for number in 0..JOBS {
            at_last(|| async { queue.enqueue(&job(number), Duration::ZERO).await }).await;
        }
        // Waits for the file, and for back-off by a clock that is moved.
        let begun = std::time::Instant::now();
        while inner.counts().await.expect("counts").0 > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "seed {seed}: the queue does not empty");
            clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let done = handler.done.lock().expect("the list").clone();
        let dead = *handler.dead.lock().expect("the count");
        assert!(done.len() + dead as usize >= usize::from(JOBS), "seed {seed}: {} of {JOBS}", done.len());
        assert!(done.values().any(|times| *times > 1), "seed {seed}: nothing ever came twice");
        assert_eq!(inner.shutdown(Duration::from_secs(30)).await, 0);
    }
}
