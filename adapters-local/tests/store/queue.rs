use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::clock::SystemClock;
use burstflare_adapters_local::queue::{QueueOptions, SqliteQueue};
use burstflare_ports::clock::Clock;
use burstflare_ports::conformance::QueueBench;
use burstflare_ports::drive::{JobHandler, JobOutcome};
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::memory::ManualClock;
use burstflare_ports::queue::{Job, Queue};
use burstflare_ports::time::Timestamp;

use super::{Place, open, place};

struct Bench {
    clock: Arc<ManualClock>,
    queue: SqliteQueue,
    _place: Place,
}

#[async_trait]
impl QueueBench for Bench {
    fn queue(&self) -> &dyn Queue {
        &self.queue
    }

    async fn run(&self, handler: Arc<dyn JobHandler>) {
        self.queue.run(handler);
    }

    async fn pass(&self, span: Duration) {
        settle().await;
        self.clock.advance(span);
        settle().await;
    }
}

/// Lets the queue's tasks come to rest: they wait for the file, not for the clock.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

async fn bench() -> Arc<dyn QueueBench> {
    let place = place().await;
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let options = QueueOptions { deadline: Duration::from_secs(1 << 30), ..QueueOptions::default() };
    let queue = SqliteQueue::new(place.database.clone(), clock.clone(), options);
    Arc::new(Bench { clock, queue, _place: place })
}

burstflare_ports::queue_tests!(
    #[tokio::test]
    bench
);

#[derive(Default)]
struct Counting {
    began: AtomicU32,
    hangs: bool,
}

#[async_trait]
impl JobHandler for Counting {
    async fn handle(&self, _: &Job, _: u32) -> PortResult<JobOutcome> {
        self.began.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(JobOutcome::Done)
    }

    async fn dead(&self, _: &Job) -> PortResult<()> {
        Ok(())
    }
}

fn job(number: u8) -> Job {
    let at = Timestamp::from_millis(1);
    Job::RunBuild { workspace: Id::new(at, [1; 10]), build: Id::new(at, [number; 10]) }
}

#[tokio::test]
async fn what_a_dead_process_had_in_its_hands_is_delivered_by_the_next() {
    let place = place().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let queue = SqliteQueue::new(place.database.clone(), clock.clone(), QueueOptions::default());
    let hanging = Arc::new(Counting { hangs: true, ..Counting::default() });
    queue.run(hanging.clone());
    queue.enqueue(&job(1), Duration::ZERO).await.expect("the job");
    while hanging.began.load(Ordering::SeqCst) == 0 {
        settle().await;
    }
    assert_eq!(queue.shutdown(Duration::from_millis(10)).await, 1, "cut off");
    drop(queue);
    place.database.close().await;
    let Place { database, folder } = place;
    drop(database);

    let queue = SqliteQueue::new(open(&folder).await, clock, QueueOptions::default());
    let counting = Arc::new(Counting::default());
    queue.run(counting.clone());
    while counting.began.load(Ordering::SeqCst) == 0 {
        settle().await;
    }
    settle().await;
    assert_eq!(queue.counts().await.expect("counts"), (0, 0));
    assert_eq!(queue.shutdown(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn many_jobs_are_handled_once_each() {
    let place = place().await;
    let queue = SqliteQueue::new(place.database.clone(), Arc::new(SystemClock), QueueOptions::default());
    let counting = Arc::new(Counting::default());
    queue.run(counting.clone());
    for number in 0..50 {
        queue.enqueue(&job(number), Duration::ZERO).await.expect("the job");
    }
    while queue.counts().await.expect("counts").0 > 0 {
        settle().await;
    }
    assert_eq!(counting.began.load(Ordering::SeqCst), 50);
}
