//! Session actors as tasks of this process: one for each session that is awake, none for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::actor::Actors;
use burstflare_ports::clock::Clock;
use burstflare_ports::drive::SessionActor;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Session, Workspace};
use tokio::sync::{Semaphore, watch};

use crate::tasks::{Backoff, Tasks, caught, locked};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(60) };

type Name = (Id<Workspace>, Id<Session>);

/// Calls the session actor: never twice at once for one session, again when it was woken meanwhile, and at
/// the moment it asked for. Clones share the actors.
#[derive(Clone)]
pub struct LocalActors {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    actor: OnceLock<Arc<dyn SessionActor>>,
    /// Sessions with a task, each with the bell that wakes it. Woken before there is an actor: without a task.
    awake: Mutex<HashMap<Name, watch::Sender<()>>>,
    looks: Semaphore,
    tasks: Tasks,
}

impl LocalActors {
    /// At most `looks` sessions are looked at in one moment.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, looks: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock,
                actor: OnceLock::new(),
                awake: Mutex::new(HashMap::new()),
                looks: Semaphore::new(looks.max(1)),
                tasks: Tasks::new(),
            }),
        }
    }

    /// Hands over the actor and begins with the sessions that were woken before. A second actor is ignored.
    pub fn run(&self, actor: Arc<dyn SessionActor>) {
        if self.inner.actor.set(actor).is_err() {
            return;
        }
        let awake = locked(&self.inner.awake);
        for (name, bell) in awake.iter() {
            self.spawn(*name, bell.subscribe());
        }
    }

    /// How many sessions have a task.
    #[must_use]
    pub fn awake(&self) -> usize {
        locked(&self.inner.awake).len()
    }

    /// Begins no more looks and gives those under way the time to end; answers how many were cut off.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.inner.tasks.shutdown(deadline).await
    }

    fn spawn(&self, name: Name, bell: watch::Receiver<()>) -> bool {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(usize::MAX, async move { inner.live(name, bell).await })
    }
}

#[async_trait]
impl Actors for LocalActors {
    async fn wake(&self, workspace: Id<Workspace>, session: Id<Session>) -> PortResult<()> {
        let name = (workspace, session);
        let mut awake = locked(&self.inner.awake);
        if let Some(bell) = awake.get(&name) {
            bell.send_replace(());
        } else {
            let bell = watch::Sender::new(());
            if self.inner.actor.get().is_some() && !self.spawn(name, bell.subscribe()) {
                return Err(PortError::new(
                    ErrorKind::Unavailable,
                    "actors.wake",
                    "this process is about to end",
                ));
            }
            awake.insert(name, bell);
        }
        Ok(())
    }
}

impl Inner {
    async fn live(&self, name: Name, mut bell: watch::Receiver<()>) {
        let Some(actor) = self.actor.get() else { return };
        let mut failures = 0;
        loop {
            let Ok(place) = self.looks.acquire().await else { return };
            if self.tasks.stopping() {
                return;
            }
            // Whoever rang until here is answered by the look that begins now.
            bell.mark_unchanged();
            let asked = caught("actors.tend", actor.tend(name.0, name.1)).await;
            drop(place);
            let pause = match asked {
                Ok(None) => {
                    // Ringing takes the same lock: nobody rings between this question and going to sleep.
                    let mut awake = locked(&self.awake);
                    if !bell.has_changed().unwrap_or(false) {
                        awake.remove(&name);
                        return;
                    }
                    failures = 0;
                    continue;
                }
                Ok(Some(at)) => {
                    failures = 0;
                    at.since(self.clock.now())
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(session = %name.1, ?error, failures, "looking at a session");
                    BACKOFF.pause(failures)
                }
            };
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                _ = bell.changed() => {}
                () = self.tasks.stopped() => return,
            }
        }
    }
}
