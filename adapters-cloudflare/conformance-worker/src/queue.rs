//! The cases of the queue, on a real one: what comes out of it is handed to the case that put it in. Seconds of a case's
//! time are not seconds here: every delay is [`REAL`], and what is due is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_cloudflare::{CloudQueue, CloudWorkflows, js};
use burstflare_ports::conformance::{QUEUE_CASES, QueueBench, Verdict, case};
use burstflare_ports::drive::{JobHandler, JobOutcome};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::queue::{Job, MAX_DELIVERIES, Queue};
use burstflare_ports::workflow::{Run, Workflows as _};
use worker::{Delay, Env};

/// What a delay of any length takes here.
const REAL: Duration = Duration::from_secs(3);
/// Where nothing is due, so long is waited for what must not come; shorter than [`REAL`].
const QUIET: Duration = Duration::from_millis(1_500);
/// What is due comes within this, or never.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Jobs of running cases, by build. The consumer is another event of the same isolate.
static TRACKED: Mutex<BTreeMap<String, Tracked>> = Mutex::new(BTreeMap::new());

#[derive(Default, Clone)]
struct Tracked {
    handler: Option<Arc<dyn JobHandler>>,
    now: Duration,
    due: Option<Duration>,
    in_hand: bool,
}

fn tracked() -> MutexGuard<'static, BTreeMap<String, Tracked>> {
    TRACKED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(job: &Job) -> String {
    let Job::RunBuild { build, .. } = job;
    build.to_string()
}

/// Runs a case; none where there is none.
pub(crate) async fn run(case_name: &str, env: &Env, seed: u64) -> worker::Result<Option<Verdict>> {
    let Some(case) = case(QUEUE_CASES, case_name) else { return Ok(None) };
    let bench = Arc::new(Bench {
        queue: CloudQueue::new(env, "JOBS")?,
        job: Mutex::default(),
        handler: Mutex::default(),
    });
    Ok(Some((case.run)(bench, seed).await))
}

/// One case's view of the queue: it has one job.
struct Bench {
    queue: CloudQueue,
    job: Mutex<Option<String>>,
    handler: Mutex<Option<Arc<dyn JobHandler>>>,
}

impl Bench {
    fn job(&self) -> Option<String> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Queue for Bench {
    async fn enqueue(&self, job: &Job, delay: Duration) -> PortResult<()> {
        let handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let track = Tracked { handler, due: Some(delay), ..Tracked::default() };
        tracked().insert(name(job), track);
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(name(job));
        self.queue.enqueue(job, real(delay)).await
    }
}

fn real(delay: Duration) -> Duration {
    if delay.is_zero() { delay } else { REAL }
}

#[async_trait]
impl QueueBench for Bench {
    fn queue(&self) -> &dyn Queue {
        self
    }

    async fn run(&self, handler: Arc<dyn JobHandler>) {
        if let Some(job) = self.job()
            && let Some(track) = tracked().get_mut(&job)
        {
            track.handler = Some(handler.clone());
        }
        *self.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    async fn pass(&self, span: Duration) {
        let Some(job) = self.job() else { return };
        if let Some(track) = tracked().get_mut(&job) {
            track.now += span;
        }
        let waiting = || {
            tracked()
                .get(&job)
                .is_some_and(|track| track.in_hand || track.due.is_some_and(|due| due <= track.now))
        };
        let mut waited = Duration::ZERO;
        while waiting() && waited < PATIENCE {
            js(Delay::from(LOOK)).await;
            waited += LOOK;
        }
        js(Delay::from(QUIET)).await;
    }
}

/// What takes the messages.
pub(crate) struct Dispatch {
    pub(crate) env: Env,
}

#[async_trait]
impl JobHandler for Dispatch {
    async fn handle(&self, job: &Job, attempt: u32) -> PortResult<JobOutcome> {
        let handler = {
            let mut all = tracked();
            match all.get_mut(&name(job)) {
                Some(track) => {
                    track.in_hand = true;
                    track.handler.clone()
                }
                None => None,
            }
        };
        let Some(handler) = handler else { return js(self.apart(job, attempt)).await };
        let outcome = handler.handle(job, attempt).await;
        if let Some(track) = tracked().get_mut(&name(job)) {
            track.in_hand = false;
            track.due = match &outcome {
                Ok(JobOutcome::Done) => None,
                Ok(JobOutcome::Retry(pause)) => Some(track.now + *pause),
                // Behind the last delivery it is due to be set aside.
                Err(_) if attempt <= MAX_DELIVERIES => Some(track.now),
                Err(_) => None,
            };
        }
        outcome.map(|outcome| match outcome {
            JobOutcome::Done => outcome,
            JobOutcome::Retry(pause) => JobOutcome::Retry(real(pause)),
        })
    }

    async fn dead(&self, job: &Job) -> PortResult<()> {
        let handler = tracked().get(&name(job)).and_then(|track| track.handler.clone());
        if let Some(handler) = handler {
            handler.dead(job).await?;
        }
        if let Some(track) = tracked().get_mut(&name(job)) {
            track.due = None;
        }
        Ok(())
    }
}

impl Dispatch {
    /// A job of no running case: it panics once where it is told to, and else begins a run.
    #[expect(clippy::future_not_send, reason = "its caller wraps it")]
    async fn apart(&self, job: &Job, attempt: u32) -> PortResult<JobOutcome> {
        let Job::RunBuild { workspace, build } = job;
        let about = build.to_string();
        if crate::notes::read(&self.env, &about).await.iter().any(|what| what == "panic") {
            crate::notes::write(&self.env, &about, &format!("came {attempt}")).await;
            #[expect(clippy::panic, reason = "what is asked is what the queue makes of it")]
            if attempt == 1 {
                panic!("by the script");
            }
            return Ok(JobOutcome::Done);
        }
        let workflows = CloudWorkflows::new(&self.env, "BUILDS")
            .map_err(|error| PortError::new(ErrorKind::Internal, "case.handle", error.to_string()))?;
        workflows.start(Run { workspace: *workspace, build: *build, attempt: 1 }).await?;
        crate::notes::write(&self.env, &about, &format!("handled {attempt}")).await;
        Ok(JobOutcome::Done)
    }
}
