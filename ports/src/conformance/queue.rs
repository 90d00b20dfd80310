use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Verdict, cases, same};
use crate::drive::{JobHandler, JobOutcome};
use crate::error::{ErrorKind, PortError, PortResult};
use crate::id::Id;
use crate::queue::{Job, MAX_DELIVERIES, Queue};
use crate::time::Timestamp;

/// A queue that delivers to the handler it was given, and whose time the case moves.
#[async_trait]
pub trait QueueBench: Send + Sync + 'static {
    /// The queue.
    fn queue(&self) -> &dyn Queue;
    /// Begins to deliver.
    async fn run(&self, handler: Arc<dyn JobHandler>);
    /// Lets so much time pass, and everything that is due then be handled.
    async fn pass(&self, span: Duration);
}

cases! {
    /// The cases of the job queue. Each needs a queue of its own.
    QUEUE_CASES: dyn QueueBench, tests queue_tests, dollar $,
    {
        deliveries::{
            a_job_is_delivered,
            a_job_waits_for_its_delay,
            what_was_enqueued_before_there_was_a_handler_is_delivered,
            a_failure_is_delivered_again,
            a_retry_comes_after_its_time,
            a_job_that_always_fails_is_set_aside,
            a_panic_is_a_failure,
        }
    }
}

/// Remembers what came, and answers by a script.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<Answer>>,
    came: Mutex<Vec<(Job, u32)>>,
    dead: Mutex<Vec<Job>>,
}

enum Answer {
    Fail,
    Panic,
    Retry(Duration),
}

impl Script {
    fn new(mut answers: Vec<Answer>) -> Arc<Self> {
        answers.reverse();
        Arc::new(Self { answers: Mutex::new(answers), ..Self::default() })
    }

    fn came(&self) -> Vec<u32> {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.iter().map(|(_, attempt)| *attempt).collect()
    }

    fn dead(&self) -> usize {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[async_trait]
impl JobHandler for Script {
    async fn handle(&self, job: &Job, attempt: u32) -> PortResult<JobOutcome> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner).push((job.clone(), attempt));
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match answer {
            None => Ok(JobOutcome::Done),
            Some(Answer::Retry(span)) => Ok(JobOutcome::Retry(span)),
            Some(Answer::Fail) => Err(PortError::new(ErrorKind::Unavailable, "case.handle", "by the script")),
            #[expect(clippy::panic, reason = "what is asked is what the queue makes of it")]
            Some(Answer::Panic) => panic!("by the script"),
        }
    }

    async fn dead(&self, job: &Job) -> PortResult<()> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).push(job.clone());
        Ok(())
    }
}

fn job(seed: u64) -> Job {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&seed.to_be_bytes());
    let at = Timestamp::from_millis(1);
    Job::RunBuild { workspace: Id::new(at, random), build: Id::new(at, random) }
}

/// Longer than any queue's pause.
const LONG: Duration = Duration::from_secs(3600);

mod deliveries {
    use super::*;

    pub(super) async fn a_job_is_delivered(bench: Arc<dyn QueueBench>, seed: u64) -> Verdict {
        let script = Script::new(Vec::new());
        bench.run(script.clone()).await;
        bench.queue().enqueue(&job(seed), Duration::ZERO).await?;
        bench.pass(Duration::ZERO).await;
        let came = script.came.lock().unwrap_or_else(PoisonError::into_inner).clone();
        same!(came, vec![(job(seed), 1)], "deliveries");
        bench.pass(LONG).await;
        same!(script.came().len(), 1, "deliveries behind a long time");
        Ok(())
    }

    pub(super) async fn a_job_waits_for_its_delay(bench: Arc<dyn QueueBench>, seed: u64) -> Verdict {
        let script = Script::new(Vec::new());
        bench.run(script.clone()).await;
        bench.queue().enqueue(&job(seed), Duration::from_secs(10)).await?;
        bench.pass(Duration::from_secs(9)).await;
        same!(script.came().len(), 0, "before");
        bench.pass(Duration::from_secs(2)).await;
        same!(script.came(), vec![1], "behind");
        Ok(())
    }

    pub(super) async fn what_was_enqueued_before_there_was_a_handler_is_delivered(
        bench: Arc<dyn QueueBench>,
        seed: u64,
    ) -> Verdict {
        let script = Script::new(Vec::new());
        bench.queue().enqueue(&job(seed), Duration::ZERO).await?;
        bench.run(script.clone()).await;
        bench.pass(Duration::ZERO).await;
        same!(script.came(), vec![1], "deliveries");
        Ok(())
    }

    pub(super) async fn a_failure_is_delivered_again(bench: Arc<dyn QueueBench>, seed: u64) -> Verdict {
        let script = Script::new(vec![Answer::Fail, Answer::Fail]);
        bench.run(script.clone()).await;
        bench.queue().enqueue(&job(seed), Duration::ZERO).await?;
        for _ in 0..4 {
            bench.pass(LONG).await;
        }
        same!(script.came(), vec![1, 2, 3], "deliveries");
        same!(script.dead(), 0, "set aside");
        Ok(())
    }

    pub(super) async fn a_retry_comes_after_its_time(bench: Arc<dyn QueueBench>, seed: u64) -> Verdict {
        let script = Script::new(vec![Answer::Retry(Duration::from_secs(100))]);
        bench.run(script.clone()).await;
        bench.queue().enqueue(&job(seed), Duration::ZERO).await?;
        bench.pass(Duration::from_secs(50)).await;
        same!(script.came(), vec![1], "before");
        bench.pass(Duration::from_secs(51)).await;
        same!(script.came(), vec![1, 2], "behind");
        Ok(())
    }

    pub(super) async fn a_job_that_always_fails_is_set_aside(
        bench: Arc<dyn QueueBench>,
        seed: u64,
    ) -> Verdict {
        let script = Script::new((0..99).map(|_| Answer::Fail).collect());
        bench.run(script.clone()).await;
        bench.queue().enqueue(&job(seed), Duration::ZERO).await?;
        for _ in 0..MAX_DELIVERIES + 3 {
            bench.pass(LONG).await;
        }
        same!(script.came(), (1..=MAX_DELIVERIES).collect::<Vec<_>>(), "deliveries");
        same!(script.dead(), 1, "set aside");
        Ok(())
    }

    pub(super) async fn a_panic_is_a_failure(bench: Arc<dyn QueueBench>, seed: u64) -> Verdict {
        let script = Script::new(vec![Answer::Panic]);
        bench.run(script.clone()).await;
        bench.queue().enqueue(&job(seed), Duration::ZERO).await?;
        bench.pass(LONG).await;
        bench.pass(LONG).await;
        same!(script.came(), vec![1, 2], "deliveries");
        Ok(())
    }
}
