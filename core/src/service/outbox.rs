//! Delivers what commits have promised: at least once, in the background, swept by reconcile.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::machine::MachineKey;
use burstflare_ports::queue::Job;
use burstflare_ports::record::{Effect, StoredEffect, Workspace};
use burstflare_ports::time::Timestamp;

use futures_util::future::BoxFuture;

use super::ControlPlane;

/// Effects delivered in one go.
const BATCH: usize = 100;
/// A session is woken at once, in memory; crossing its row off can wait until the start has had its commits.
const LAZY: Duration = Duration::from_millis(500);
/// An effect due within this is waited for.
const SOON: Duration = Duration::from_secs(300);

/// Workspaces whose outbox somebody will look at before long.
#[derive(Debug, Default)]
pub(super) struct Lazy(Mutex<HashSet<Id<Workspace>>>);

impl Lazy {
    fn all(&self) -> MutexGuard<'_, HashSet<Id<Workspace>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task of looking, where nobody has it.
    fn begin(self: &Arc<Self>, workspace: Id<Workspace>) -> Option<Look> {
        self.all().insert(workspace).then(|| Look(Arc::clone(self), workspace))
    }
}

/// Ends with whoever was to look, also where that never came to it.
struct Look(Arc<Lazy>, Id<Workspace>);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.all().remove(&self.1);
    }
}

impl ControlPlane {
    /// Sees to it that fresh effects are delivered soon. Failing is safe: they stand in the outbox.
    pub(super) async fn deliver_soon(&self, workspace: Id<Workspace>, fresh: &[(Effect, Timestamp)]) {
        let mut only_wakes = true;
        for (effect, _) in fresh {
            if let Effect::WakeSession { session } = effect {
                if let Err(error) = self.ports().actors.wake(workspace, *session).await {
                    tracing::debug!(%error, "wake left to the outbox");
                    only_wakes = false;
                }
            } else {
                only_wakes = false;
            }
        }
        if fresh.is_empty() {
            return;
        }
        let now = self.now();
        let mut look = None;
        if only_wakes && fresh.iter().all(|(_, at)| *at <= now) {
            look = self.inner.lazy.begin(workspace);
            // In a burst one look crosses off the rows of all.
            if look.is_none() {
                return;
            }
        }
        let plane = self.clone();
        let due: Vec<Timestamp> = fresh.iter().map(|(_, at)| *at).collect();
        let task = Box::pin(async move {
            if only_wakes {
                plane.ports().clock.sleep(LAZY).await;
            }
            // Rows of commits from here on are the next one's.
            drop(look);
            let now = plane.now();
            // What is far off is reconcile's: nothing here waits for so long.
            let soon = now.after(SOON);
            let mut due: Vec<Timestamp> = due.into_iter().filter(|at| *at > now && *at <= soon).collect();
            due.sort_unstable();
            // Once for what is due, and again in the moment that the next attempt of a build is due.
            for at in std::iter::once(now).chain(due) {
                plane.ports().clock.sleep(at.since(plane.now())).await;
                if let Err(error) = plane.clone().deliver_beside(workspace).await {
                    tracing::warn!(%error, "outbox left to reconcile");
                }
            }
        });
        if let Err(error) = self.ports().background.spawn(task) {
            tracing::debug!(%error, "outbox left to reconcile");
        }
    }

    /// [`Self::deliver`] by a type of its own: effects that commit lead here again.
    fn deliver_beside(self, workspace: Id<Workspace>) -> BoxFuture<'static, PortResult<u64>> {
        Box::pin(async move { self.deliver(Some(workspace)).await })
    }

    /// Delivers due effects of a workspace, or of all. Answers how many were delivered.
    ///
    /// # Errors
    /// When the store cannot answer. An effect that fails is put off with back-off and is no error.
    pub async fn deliver(&self, workspace: Option<Id<Workspace>>) -> PortResult<u64> {
        let mut delivered = 0;
        loop {
            let due = self.store().due(workspace, self.now(), BATCH).await?;
            let full = due.len() == BATCH;
            for effect in due {
                match self.perform(&effect).await {
                    Ok(()) => {
                        self.store().settle(&effect).await?;
                        delivered += 1;
                    }
                    Err(error) => {
                        let wait = Duration::from_secs(1 << effect.attempts.min(8));
                        // A server that is about to end wakes nobody: the next one looks at every session anyway.
                        if matches!(effect.effect, Effect::WakeSession { .. }) {
                            tracing::debug!(effect = ?effect.effect, ?error, "wake put off");
                        } else {
                            tracing::warn!(effect = ?effect.effect, ?error, "effect put off");
                        }
                        self.store().postpone(&effect, self.now().after(wait)).await?;
                    }
                }
            }
            if !full {
                return Ok(delivered);
            }
        }
    }

    async fn perform(&self, stored: &StoredEffect) -> PortResult<()> {
        // All effects so far belong to a workspace; one without has nothing to act on.
        let Some(workspace) = stored.workspace else { return Ok(()) };
        match &stored.effect {
            Effect::WakeSession { session } => self.ports().actors.wake(workspace, *session).await,
            Effect::RunBuild { build } => {
                self.ports().queue.enqueue(&Job::RunBuild { workspace, build: *build }, Duration::ZERO).await
            }
            Effect::DeleteBlob { blob } => self.ports().blobs.delete(blob).await,
            Effect::DropSnapshot { blob } => self.drop_snapshot_blob(workspace, blob).await,
            Effect::SweepPacks { lineage } => self.sweep_lineage(workspace, *lineage).await.map(drop),
            Effect::PushSecrets { .. } => self.push_secrets(workspace).await,
            Effect::DestroyMachine { owner, epoch } => match owner.parse() {
                Ok(owner) => {
                    match self.ports().runtime.destroy(MachineKey { workspace, owner }, *epoch).await {
                        // A later life has begun: it is not ours to end.
                        Err(error) if error.kind() == burstflare_ports::error::ErrorKind::Stale => Ok(()),
                        other => other,
                    }
                }
                Err(error) => {
                    tracing::error!(%error, owner, "an effect names no machine");
                    Ok(())
                }
            },
        }
    }
}
