//! The workflow engine of one machine: a journal of steps in its SQLite file.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_migrations::{Database, Statement, Value, local};
use burstflare_ports::clock::Clock;
use burstflare_ports::drive::{StepOutcome, StepRunner};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::time::Timestamp;
use burstflare_ports::workflow::{Run, Workflows};
use tokio::sync::Semaphore;

use crate::sqlite::SqliteDatabase;
use crate::tasks::{Backoff, Tasks, caught, locked};

/// How long the journal of a run that is over is kept, so that starting it again changes nothing.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How the engine works.
#[derive(Debug, Clone, Copy)]
pub struct WorkflowOptions {
    /// Runs driven at once.
    pub runs: usize,
    /// Tries of a step before its run is given up.
    pub tries: u32,
    /// The pause behind the first failure; later ones double it.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for WorkflowOptions {
    fn default() -> Self {
        Self { runs: 64, tries: 3, pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) }
    }
}

/// Runs in SQLite. What a process leaves behind, the next one continues after the last step that was noted.
/// Clones share the engine.
#[derive(Clone)]
pub struct SqliteWorkflows {
    inner: Arc<Inner>,
}

struct Inner {
    database: SqliteDatabase,
    clock: Arc<dyn Clock>,
    options: WorkflowOptions,
    runner: OnceLock<Arc<dyn StepRunner>>,
    /// Names of the runs that have a task.
    driven: Mutex<BTreeSet<String>>,
    places: Semaphore,
    tasks: Tasks,
}

impl SqliteWorkflows {
    /// An engine that records runs, and drives them from [`SqliteWorkflows::run`] on.
    #[must_use]
    pub fn new(database: SqliteDatabase, clock: Arc<dyn Clock>, options: WorkflowOptions) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                clock,
                options,
                runner: OnceLock::new(),
                driven: Mutex::new(BTreeSet::new()),
                places: Semaphore::new(options.runs.max(1)),
                tasks: Tasks::new(),
            }),
        }
    }

    /// Hands over the runner and continues every run that is not over. A second runner is ignored.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn run(&self, runner: Arc<dyn StepRunner>) -> PortResult<()> {
        if self.inner.runner.set(runner).is_err() {
            return Ok(());
        }
        let before = moment(self.inner.clock.now().before(KEPT));
        let sweep = Statement::new(local::RUNS_SWEEP, vec![before]);
        self.inner.database.write("workflow.run", vec![sweep]).await?;
        for row in self.inner.database.query(Statement::new(local::RUNS_UNFINISHED, Vec::new())).await? {
            if let Some(Value::Text(text)) = row.0.first()
                && let Ok(run) = serde_json::from_str(text)
            {
                self.drive(run);
            }
        }
        Ok(())
    }

    /// How many runs are being driven.
    #[must_use]
    pub fn driven(&self) -> usize {
        locked(&self.inner.driven).len()
    }

    /// Begins no more steps and gives those under way the time to end; the next process continues.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.inner.tasks.shutdown(deadline).await
    }

    fn drive(&self, run: Run) {
        if !locked(&self.inner.driven).insert(run.name()) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let started = self.inner.tasks.spawn(usize::MAX, async move {
            inner.drive(run).await;
            locked(&inner.driven).remove(&run.name());
        });
        if !started {
            locked(&self.inner.driven).remove(&run.name());
        }
    }
}

#[async_trait]
impl Workflows for SqliteWorkflows {
    async fn start(&self, run: Run) -> PortResult<()> {
        let text = serde_json::to_string(&run).map_err(|error| {
            PortError::new(ErrorKind::Internal, "workflow.start", "a run has no text").with_source(error)
        })?;
        let now = moment(self.inner.clock.now());
        let start = Statement::new(local::RUN_START, vec![Value::Text(run.name()), Value::Text(text), now]);
        let new = self.inner.database.write("workflow.start", vec![start]).await? > 0;
        if new && self.inner.runner.get().is_some() {
            self.drive(run);
        }
        Ok(())
    }
}

impl Inner {
    async fn drive(&self, run: Run) {
        let Some(runner) = self.runner.get() else { return };
        let Ok(_place) = self.places.acquire().await else { return };
        let steps = match self.tried(|| caught("workflow.steps", runner.steps(&run))).await {
            Some(Ok(steps)) => steps,
            Some(Err(error)) => return self.give_up(runner.as_ref(), &run, &error).await,
            None => return,
        };
        let Some(done) = self.insistent(|| self.steps_behind(&run)).await else { return };
        for step in steps.iter().filter(|step| !done.contains(*step)) {
            match self.tried(|| caught("workflow.step", runner.step(&run, step))).await {
                Some(Ok(StepOutcome::Next)) => {
                    let now = moment(self.clock.now());
                    let params = vec![Value::Text(run.name()), Value::Text(step.clone()), now];
                    if !self.note(Statement::new(local::RUN_STEP_DONE, params)).await {
                        return;
                    }
                }
                Some(Ok(StepOutcome::End)) => break,
                Some(Err(error)) => return self.give_up(runner.as_ref(), &run, &error).await,
                None => return,
            }
        }
        self.finish(&run).await;
    }

    /// Tries a call as often as the options allow. `None` where the process ends.
    async fn tried<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Option<PortResult<T>>
    where
        T: Send,
        F: Future<Output = PortResult<T>> + Send,
    {
        let mut failures = 0;
        loop {
            if self.tasks.stopping() {
                return None;
            }
            match call().await {
                Ok(answer) => return Some(Ok(answer)),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(?error, failures, "a step");
                    if failures >= self.options.tries {
                        return Some(Err(error));
                    }
                    self.pause(failures).await;
                }
            }
        }
    }

    /// Tries a call until it succeeds. `None` where the process ends.
    async fn insistent<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Option<T>
    where
        T: Send,
        F: Future<Output = PortResult<T>> + Send,
    {
        let mut failures = 0;
        while !self.tasks.stopping() {
            match call().await {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(?error, failures, "the journal");
                    self.pause(failures).await;
                }
            }
        }
        None
    }

    async fn pause(&self, failures: u32) {
        let backoff = Backoff { base: self.options.pause, cap: self.options.longest_pause };
        tokio::select! {
            () = self.clock.sleep(backoff.pause(failures)) => {}
            () = self.tasks.stopped() => {}
        }
    }

    async fn give_up(&self, runner: &dyn StepRunner, run: &Run, error: &PortError) {
        let reason = error.to_string();
        let told = self.insistent(|| caught("workflow.abandon", runner.abandon(run, &reason))).await;
        if told.is_some() {
            self.finish(run).await;
        }
    }

    async fn finish(&self, run: &Run) {
        let now = moment(self.clock.now());
        self.note(Statement::new(local::RUN_FINISH, vec![now, Value::Text(run.name())])).await;
    }

    /// Writes to the journal; answers whether it is there.
    async fn note(&self, statement: Statement) -> bool {
        self.insistent(|| self.database.write("workflow.note", vec![statement.clone()])).await.is_some()
    }

    async fn steps_behind(&self, run: &Run) -> PortResult<BTreeSet<String>> {
        let rows =
            self.database.query(Statement::new(local::RUN_STEPS, vec![Value::Text(run.name())])).await?;
        let texts = rows.into_iter().filter_map(|row| match row.0.into_iter().next() {
            Some(Value::Text(step)) => Some(step),
            _ => None,
        });
        Ok(texts.collect())
    }
}

fn moment(at: Timestamp) -> Value {
    Value::Int(at.millis())
}
