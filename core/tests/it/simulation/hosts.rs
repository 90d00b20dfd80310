//! Stand-ins for what hosts the control plane: queue, workflow engine, actors, feed, background. The queue and the
//! journal of runs are durable; everything else is lost in a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_core::ControlPlane;
use burstflare_ports::actor::Actors;
use burstflare_ports::clock::{Background, Clock as _, Entropy, Task};
use burstflare_ports::drive::{JobHandler as _, JobOutcome, SessionActor as _, StepOutcome, StepRunner as _};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::feed::{Feed, Hints};
use burstflare_ports::id::Id;
use burstflare_ports::limit::{RateLimiter, Verdict};
use burstflare_ports::mail::{Mail, Mailer};
use burstflare_ports::queue::{Job, MAX_DELIVERIES, Queue};
use burstflare_ports::record::{Session, Workspace};
use burstflare_ports::time::Timestamp;
use burstflare_ports::workflow::{Run, Workflows};
use futures_util::future::{Either, select};
use futures_util::{pin_mut, stream};

use super::executor::{Side, Spawner};
use super::fault::Faults;
use super::rng::Rng;

/// Rings for whoever listens; who does not listen yet hears it later.
#[derive(Clone, Default)]
pub(super) struct Bell(Arc<Mutex<(u64, Vec<Waker>)>>);

impl Bell {
    pub(super) fn ring(&self) {
        let mut bell = self.0.lock().unwrap();
        bell.0 += 1;
        bell.1.drain(..).for_each(Waker::wake);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.lock().unwrap().0
    }

    /// Waits until it has rung more often than `seen`.
    pub(super) async fn after(&self, seen: u64) {
        std::future::poll_fn(|context| {
            let mut bell = self.0.lock().unwrap();
            if bell.0 > seen {
                return Poll::Ready(());
            }
            bell.1.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits so, but no longer than `span`.
    async fn after_or(&self, seen: u64, faults: &Faults, span: Duration) {
        let (rung, pause) = (self.after(seen), faults.clock.sleep(span));
        pin_mut!(rung, pause);
        match select(rung, pause).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}

/// A job, when it is due, and how often it was delivered.
type Waiting = (Job, Timestamp, u32);
/// Names a session's actor.
type Name = (Id<Workspace>, Id<Session>);

/// What the hosts keep through a crash.
#[derive(Clone, Default)]
pub(super) struct Durable {
    jobs: Arc<Mutex<BTreeMap<u64, Waiting>>>,
    runs: Arc<Mutex<BTreeMap<String, Journal>>>,
}

#[derive(Clone)]
struct Journal {
    run: Run,
    done: usize,
    over: bool,
}

/// The hosts of one life of the control plane.
#[derive(Clone)]
pub(super) struct Hosts {
    durable: Durable,
    faults: Faults,
    spawner: Spawner,
    plane: Arc<Mutex<Option<ControlPlane>>>,
    bell: Bell,
    hints: Bell,
    driven: Arc<Mutex<BTreeSet<String>>>,
    actors: Arc<Mutex<BTreeMap<Name, Bell>>>,
}

impl Hosts {
    pub(super) fn new(durable: Durable, faults: Faults, spawner: Spawner) -> Self {
        Self {
            durable,
            faults,
            spawner,
            plane: Arc::default(),
            bell: Bell::default(),
            hints: Bell::default(),
            driven: Arc::default(),
            actors: Arc::default(),
        }
    }

    fn plane(&self) -> ControlPlane {
        self.plane.lock().unwrap().clone().unwrap()
    }

    /// Begins to drive: jobs, runs that were left behind, reconcile now and then.
    pub(super) fn run(&self, plane: &ControlPlane) {
        *self.plane.lock().unwrap() = Some(plane.clone());
        let hosts = self.clone();
        self.spawner.spawn(Side::Plane, async move { hosts.consume().await });
        let left: Vec<Run> = {
            let runs = self.durable.runs.lock().unwrap();
            runs.values().filter(|journal| !journal.over).map(|journal| journal.run).collect()
        };
        left.into_iter().for_each(|run| self.drive(run));
        let (plane, faults) = (plane.clone(), self.faults.clone());
        self.spawner.spawn(Side::Plane, async move {
            loop {
                match plane.reconcile().await {
                    Ok(report) => faults.note(|| format!("reconcile {report:?}")),
                    Err(error) => {
                        faults.judge("reconcile", &error);
                        faults.note(|| format!("reconcile: {error}"));
                    }
                }
                // Where hours pass without anything but that, as rarely as it still finds what is due.
                let pause = if faults.are_resting() { 600 } else { 30 };
                faults.clock.sleep(Duration::from_secs(pause)).await;
            }
        });
    }

    /// Lets go of the control plane, which holds these hosts in its turn.
    pub(super) fn forget(&self) {
        *self.plane.lock().unwrap() = None;
    }

    async fn consume(&self) {
        loop {
            let seen = self.bell.count();
            let now = self.faults.clock.now();
            let due: Vec<u64> = {
                let jobs = self.durable.jobs.lock().unwrap();
                jobs.iter().filter(|(_, (_, at, _))| *at <= now).map(|(id, _)| *id).collect()
            };
            let Some(id) = self.faults.rng.pick(&due).copied() else {
                self.bell.after_or(seen, &self.faults, Duration::from_secs(1)).await;
                continue;
            };
            self.deliver(id).await;
        }
    }

    async fn deliver(&self, id: u64) {
        let Some((job, _, attempts)) = self.durable.jobs.lock().unwrap().get(&id).cloned() else { return };
        let attempt = attempts + 1;
        let again = if attempt > MAX_DELIVERIES {
            self.plane().dead(&job).await.err().map(|_| Duration::from_secs(5))
        } else {
            match self.plane().handle(&job, attempt).await {
                Ok(JobOutcome::Done) => None,
                Ok(JobOutcome::Retry(span)) => Some(span),
                Err(_) => Some(Duration::from_secs(1 << attempt)),
            }
        };
        let mut jobs = self.durable.jobs.lock().unwrap();
        let again = again.or_else(|| {
            let again = self.faults.duplicates();
            if again {
                self.faults.count("job again");
            }
            again.then_some(Duration::from_millis(10))
        });
        match again {
            None => drop(jobs.remove(&id)),
            Some(span) => {
                jobs.insert(id, (job, self.faults.clock.now().after(span), attempt.min(MAX_DELIVERIES)));
            }
        }
    }

    fn drive(&self, run: Run) {
        if self.driven.lock().unwrap().insert(run.name()) {
            let hosts = self.clone();
            self.spawner.spawn(Side::Plane, async move {
                hosts.drive_on(run).await;
                hosts.driven.lock().unwrap().remove(&run.name());
            });
        }
    }

    async fn drive_on(&self, run: Run) {
        let mut tries = 0;
        let mut reason = String::new();
        loop {
            let failed = if tries >= 3 {
                match self.plane().abandon(&run, &reason).await {
                    Ok(()) => return self.journal(run, |journal| journal.over = true),
                    Err(error) => error,
                }
            } else {
                match self.next_step(run).await {
                    Ok(false) => return self.journal(run, |journal| journal.over = true),
                    Ok(true) => {
                        tries = 0;
                        // Cut off before it was written down: the step comes again.
                        if !self.faults.duplicates() || self.faults.rng.hits(5_000) {
                            self.journal(run, |journal| journal.done += 1);
                        } else {
                            self.faults.count("step of a build again");
                        }
                        continue;
                    }
                    Err(error) => error,
                }
            };
            self.faults.judge("step", &failed);
            tries += 1;
            reason = failed.to_string();
            self.faults.clock.sleep(Duration::from_secs(1)).await;
        }
    }

    async fn next_step(&self, run: Run) -> PortResult<bool> {
        let steps = self.plane().steps(&run).await?;
        let done = self.durable.runs.lock().unwrap()[&run.name()].done;
        let Some(name) = steps.get(done) else { return Ok(false) };
        Ok(self.plane().step(&run, name).await? == StepOutcome::Next)
    }

    fn journal(&self, run: Run, change: impl FnOnce(&mut Journal)) {
        change(self.durable.runs.lock().unwrap().get_mut(&run.name()).unwrap());
    }

    async fn tend(&self, name: Name, bell: Bell) {
        let mut failures = 0_u32;
        loop {
            let seen = bell.count();
            let pause = match self.plane().tend(name.0, name.1).await {
                Ok(None) if bell.count() == seen => {
                    self.actors.lock().unwrap().remove(&name);
                    return;
                }
                Ok(None) => continue,
                Ok(Some(at)) => {
                    failures = 0;
                    at.since(self.faults.clock.now())
                }
                Err(error) => {
                    self.faults.judge("tend", &error);
                    failures += 1;
                    Duration::from_millis(250 << failures.min(6))
                }
            };
            // After a failure a wake does not shorten the back-off, as with the real hosts.
            if failures == 0 {
                bell.after_or(seen, &self.faults, pause).await;
            } else {
                self.faults.clock.sleep(pause).await;
            }
        }
    }
}

#[async_trait]
impl Queue for Hosts {
    async fn enqueue(&self, job: &Job, delay: Duration) -> PortResult<()> {
        self.faults
            .around("queue.enqueue", async {
                let mut jobs = self.durable.jobs.lock().unwrap();
                let id = jobs.last_key_value().map_or(0, |(id, _)| id + 1);
                // Some jobs have been delivered in vain before, to workers that died of something else.
                let spent = if self.faults.duplicates() { self.faults.rng.below(6) } else { 0 };
                let spent = u32::try_from(spent).unwrap();
                jobs.insert(id, (job.clone(), self.faults.clock.now().after(delay), spent));
                Ok(())
            })
            .await?;
        self.bell.ring();
        Ok(())
    }
}

#[async_trait]
impl Workflows for Hosts {
    async fn start(&self, run: Run) -> PortResult<()> {
        self.faults
            .around("workflows.start", async {
                let mut runs = self.durable.runs.lock().unwrap();
                let journal = runs.entry(run.name()).or_insert(Journal { run, done: 0, over: false });
                if !journal.over {
                    self.drive(run);
                }
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Actors for Hosts {
    async fn wake(&self, workspace: Id<Workspace>, session: Id<Session>) -> PortResult<()> {
        self.faults
            .around("actors.wake", async {
                let name = (workspace, session);
                let mut actors = self.actors.lock().unwrap();
                if let Some(bell) = actors.get(&name) {
                    bell.ring();
                    return Ok(());
                }
                let bell = Bell::default();
                actors.insert(name, bell.clone());
                let hosts = self.clone();
                self.spawner.spawn(Side::Plane, async move { hosts.tend(name, bell).await });
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Feed for Hosts {
    async fn publish(&self, _workspace: Id<Workspace>) -> PortResult<()> {
        // A hint may be lost: the listener looks by itself after a while.
        self.faults.around("feed.publish", async { Ok(()) }).await?;
        self.hints.ring();
        Ok(())
    }

    async fn subscribe(&self, _workspace: Id<Workspace>) -> PortResult<Hints> {
        let bell = self.hints.clone();
        let seen = bell.count();
        self.faults.around("feed.subscribe", async { Ok(()) }).await?;
        Ok(Box::pin(stream::unfold((bell, seen), |(bell, seen)| async move {
            bell.after(seen).await;
            let seen = bell.count();
            Some(((), (bell, seen)))
        })))
    }
}

impl Background for Hosts {
    fn spawn(&self, task: Task) -> PortResult<()> {
        if self.faults.is_full() {
            return Err(PortError::new(ErrorKind::Full, "background", "simulated"));
        }
        self.spawner.spawn(Side::Plane, task);
        Ok(())
    }
}

#[async_trait]
impl RateLimiter for Hosts {
    async fn take(&self, _bucket: &str, _limit: u32, _window: Duration) -> PortResult<Verdict> {
        Ok(Verdict::Allowed)
    }
}

#[async_trait]
impl Mailer for Hosts {
    async fn send(&self, _mail: &Mail) -> PortResult<()> {
        Ok(())
    }

    fn proves_addresses(&self) -> bool {
        false
    }
}

/// Chance of the control plane: as predictable as the rest.
pub(super) struct SimEntropy(pub(super) Rng);

impl Entropy for SimEntropy {
    fn fill(&self, buffer: &mut [u8]) -> PortResult<()> {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.0.next().to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}
