//! The job queue of one machine, durable in its SQLite file.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_migrations::{Database, Row, Statement, Value, local};
use burstflare_ports::clock::Clock;
use burstflare_ports::drive::{JobHandler, JobOutcome};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::queue::{Job, MAX_DELIVERIES, Queue};
use burstflare_ports::time::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::sqlite::SqliteDatabase;
use crate::tasks::{Backoff, Tasks, caught};

/// How the queue works.
#[derive(Debug, Clone, Copy)]
pub struct QueueOptions {
    /// Jobs handled at once.
    pub workers: usize,
    /// How long a job stays with a process that shows no sign of life.
    pub lease: Duration,
    /// How long handling may take before it counts as failed.
    pub deadline: Duration,
    /// The pause behind the first failure; later ones double it.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            workers: 4,
            lease: Duration::from_secs(30),
            deadline: Duration::from_secs(600),
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// Jobs in SQLite. A job is leased while it is handled and comes back when its lease ends; clones share the queue.
#[derive(Clone)]
pub struct SqliteQueue {
    inner: Arc<Inner>,
}

struct Inner {
    database: SqliteDatabase,
    clock: Arc<dyn Clock>,
    options: QueueOptions,
    handler: OnceLock<Arc<dyn JobHandler>>,
    /// Rings when a job was enqueued; remembers one ring.
    news: Notify,
    tasks: Tasks,
}

/// A job in the hands of a worker.
struct Leased {
    id: i64,
    job: Option<Job>,
    deliveries: u32,
}

impl SqliteQueue {
    /// A queue that keeps jobs, and delivers them from [`SqliteQueue::run`] on.
    #[must_use]
    pub fn new(database: SqliteDatabase, clock: Arc<dyn Clock>, options: QueueOptions) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                clock,
                options,
                handler: OnceLock::new(),
                news: Notify::new(),
                tasks: Tasks::new(),
            }),
        }
    }

    /// Hands over the handler and begins to deliver. A second handler is ignored.
    pub fn run(&self, handler: Arc<dyn JobHandler>) {
        if self.inner.handler.set(handler).is_ok() {
            let inner = Arc::clone(&self.inner);
            self.inner.tasks.spawn(usize::MAX, async move { inner.deliver().await });
        }
    }

    /// Jobs that wait or are being handled, and jobs that were set aside.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn counts(&self) -> PortResult<(u64, u64)> {
        let rows = self.inner.database.query(Statement::new(local::JOB_COUNTS, Vec::new())).await?;
        Ok(match rows.first().map(|row| row.0.as_slice()) {
            Some([Value::Int(waiting), Value::Int(dead)]) => (waiting.unsigned_abs(), dead.unsigned_abs()),
            _ => (0, 0),
        })
    }

    /// Takes up no more jobs and gives those in work the time to end; the rest is delivered again by the next process.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.inner.tasks.shutdown(deadline).await
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn enqueue(&self, job: &Job, delay: Duration) -> PortResult<()> {
        let text = serde_json::to_string(job).map_err(|error| {
            PortError::new(ErrorKind::Internal, "queue.enqueue", "a job has no text").with_source(error)
        })?;
        let due_at = self.inner.clock.now().after(delay);
        let statement = Statement::new(local::JOB_ENQUEUE, vec![Value::Text(text), moment(due_at)]);
        self.inner.database.write("queue.enqueue", vec![statement]).await?;
        self.inner.news.notify_one();
        Ok(())
    }
}

impl Inner {
    /// Takes what is due, as long as there are free hands; otherwise sleeps until something changes.
    async fn deliver(self: Arc<Self>) {
        // The folder's lock says that whoever held these leases is gone.
        let release = Statement::new(local::JOB_RELEASE_ALL, vec![moment(self.clock.now())]);
        self.write("queue.run", vec![release]).await;
        let mut hands = JoinSet::new();
        while !self.tasks.stopping() {
            if hands.len() >= self.options.workers {
                tokio::select! {
                    _ = hands.join_next() => {}
                    () = self.tasks.stopped() => {}
                }
                continue;
            }
            let pause = match self.claim().await {
                Ok(Some(leased)) => {
                    let worker = Arc::clone(&self);
                    hands.spawn(async move { worker.work(leased).await });
                    continue;
                }
                Ok(None) => self.until_next().await,
                Err(error) => {
                    tracing::warn!(?error, "taking a job");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = self.news.notified() => {}
                () = self.clock.sleep(pause) => {}
                Some(_) = hands.join_next() => {}
                () = self.tasks.stopped() => {}
            }
        }
        while hands.join_next().await.is_some() {}
    }

    async fn claim(&self) -> PortResult<Option<Leased>> {
        let now = self.clock.now();
        let params = vec![moment(now.after(self.options.lease)), moment(now)];
        let rows = self.database.write_returning(Statement::new(local::JOB_CLAIM, params)).await?;
        match rows.into_iter().next() {
            Some(Row(values)) => match <[Value; 3]>::try_from(values) {
                Ok([Value::Int(id), Value::Text(text), Value::Int(deliveries)]) => Ok(Some(Leased {
                    id,
                    job: serde_json::from_str(&text).ok(),
                    deliveries: u32::try_from(deliveries).unwrap_or(u32::MAX),
                })),
                _ => Err(PortError::new(ErrorKind::Corrupt, "queue.claim", "a job is no job")),
            },
            None => Ok(None),
        }
    }

    /// How long until the next job is due; a long time where there is none.
    async fn until_next(&self) -> Duration {
        const LONG: Duration = Duration::from_secs(3600);
        match self.database.query(Statement::new(local::JOB_NEXT, Vec::new())).await {
            Ok(rows) => match rows.first().and_then(|row| row.0.first()) {
                Some(Value::Int(due_at)) => Timestamp::from_millis(*due_at).since(self.clock.now()).min(LONG),
                _ => LONG,
            },
            Err(_) => Duration::from_secs(1),
        }
    }

    async fn work(&self, leased: Leased) {
        let (Some(handler), Some(job)) = (self.handler.get(), &leased.job) else {
            tracing::error!(job = leased.id, "a job that this version cannot read is set aside");
            return self.bury(leased.id, "it cannot be read".to_owned()).await;
        };
        let mut why = "the process ended while it had the job".to_owned();
        // Past the limit only where a process died with the last delivery in its hands.
        if leased.deliveries <= MAX_DELIVERIES {
            let handling = caught("queue.handle", handler.handle(job, leased.deliveries));
            let pause = match self.held(leased.id, handling).await {
                Ok(JobOutcome::Done) => {
                    let done = Statement::new(local::JOB_DONE, vec![Value::Int(leased.id)]);
                    return self.write("queue.done", vec![done]).await;
                }
                Ok(JobOutcome::Retry(pause)) => {
                    "it asked to come again".clone_into(&mut why);
                    pause
                }
                Err(error) => {
                    tracing::warn!(?job, ?error, deliveries = leased.deliveries, "handling a job");
                    why = error.to_string();
                    self.backoff().pause(leased.deliveries)
                }
            };
            if leased.deliveries < MAX_DELIVERIES {
                return self.retry(leased.id, pause, why).await;
            }
        }
        match self.held(leased.id, caught("queue.dead", handler.dead(job))).await {
            Ok(()) => self.bury(leased.id, why).await,
            // It stays, and its next delivery goes straight to here.
            Err(error) => {
                tracing::warn!(?job, ?error, "setting a job aside");
                self.retry(leased.id, self.backoff().pause(leased.deliveries), why).await;
            }
        }
    }

    /// Holds a job's lease while something is done with it, for as long as that may take.
    async fn held<T>(&self, id: i64, work: impl Future<Output = PortResult<T>> + Send) -> PortResult<T> {
        let hold = async {
            loop {
                self.clock.sleep(self.options.lease / 3).await;
                let until = moment(self.clock.now().after(self.options.lease));
                let extend = Statement::new(local::JOB_EXTEND, vec![until, Value::Int(id)]);
                self.write("queue.extend", vec![extend]).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = self.clock.sleep(self.options.deadline) => {
                Err(PortError::new(ErrorKind::Timeout, "queue.handle", "handling took too long"))
            }
            () = hold => Err(PortError::new(ErrorKind::Internal, "queue.handle", "the lease was let go")),
        }
    }

    async fn retry(&self, id: i64, pause: Duration, why: String) {
        let due_at = moment(self.clock.now().after(pause));
        let params = vec![due_at, Value::Text(why), Value::Int(id)];
        self.write("queue.retry", vec![Statement::new(local::JOB_RETRY, params)]).await;
        self.news.notify_one();
    }

    async fn bury(&self, id: i64, why: String) {
        let params = vec![Value::Text(why), moment(self.clock.now()), Value::Int(id)];
        let bury = Statement::new(local::JOB_BURY, params);
        let done = Statement::new(local::JOB_DONE, vec![Value::Int(id)]);
        self.write("queue.bury", vec![bury, done]).await;
    }

    /// A write that may fail: the lease ends by itself then, and the job is delivered again.
    async fn write(&self, operation: &'static str, statements: Vec<Statement>) {
        if let Err(error) = self.database.write(operation, statements).await {
            tracing::warn!(?error, operation, "writing to the queue");
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff { base: self.options.pause, cap: self.options.longest_pause }
    }
}

fn moment(at: Timestamp) -> Value {
    Value::Int(at.millis())
}
