//! Snapshots that nobody waits for: those that a session's actor finds wanted or due, and those whose time is over.

use std::time::Duration;

use burstflare_ports::error::{PortError, PortResult, Retry};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{Effect, Session, Snapshot, SnapshotKind, SnapshotState};
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, PAGE_LIMIT, Put};
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{ACTIVITY, Ready};
use serde_json::json;

use super::snapshot_take::Mode;
use super::{ControlPlane, failure, into_port};
use crate::domain::snapshot as rules;

/// A machine that is asked whether it is there answers within this.
const THERE: Duration = Duration::from_secs(2);
/// Snapshots looked at in one round of reconcile.
const PAGE: usize = 100;

/// What reconcile makes of a snapshot whose time is over.
enum Over {
    Fail,
    Delete,
    /// Something needs it.
    PutOff,
}

impl ControlPlane {
    /// Takes what is wanted or due of a running session; answers when the next one is due. The machine is not kept
    /// awake by it: nothing that it does counts as activity.
    pub(super) async fn tend_snapshots(&self, session: &Session) -> PortResult<Option<Timestamp>> {
        let plan = self.session_plan(session).await?;
        let next = rules::autosave_at(session, plan.autosave);
        let pending = self.store().pending_snapshot(session.workspace, session.id).await?;
        if pending.as_ref().is_some_and(|found| rules::is_overdue(found, self.now())) {
            if let Some(found) = &pending {
                self.give_up_snapshot(found).await?;
            }
            return Ok(next);
        }
        if pending.is_none() && next.is_none_or(|at| at > self.now()) {
            return Ok(next);
        }
        let target = self.target(session).map_err(into_port)?;
        let ready = self.agent_ready(&target, THERE).await?;
        if pending.is_none() && self.nothing_happened(session, &target, &ready).await {
            self.put_off_autosave(session).await?;
            return Ok(Some(self.now()));
        }
        let taken =
            self.take_snapshot(session, &target, &ready, (SnapshotKind::Auto, Mode::Live), &plan).await;
        match taken {
            Ok(_) => {}
            Err(error) if error.retry() == Retry::Later => return Err(error),
            // It is recorded as failed. By time, it is tried again when the next one would be due.
            Err(error) => {
                tracing::warn!(session = %session.id, ?error, "snapshot failed");
                self.put_off_autosave(session).await?;
            }
        }
        Ok(Some(self.now()))
    }

    /// Whether the agent says that nobody and nothing was active since the last look. One that does not answer, or
    /// cannot judge, says nothing of the kind.
    async fn nothing_happened(&self, session: &Session, target: &AgentTarget, ready: &Ready) -> bool {
        let Some(saved) = session.saved_at.filter(|at| *at >= session.changed_at) else { return false };
        if !ready.capabilities.iter().any(|name| name == ACTIVITY) {
            return false;
        }
        match self.agent_activity(target, THERE).await {
            Ok(activity) => self.last_active(&activity) < saved,
            Err(_) => false,
        }
    }

    async fn put_off_autosave(&self, session: &Session) -> PortResult<()> {
        self.commit_decided(|| async move {
            let Some(fresh) = self.store().session(session.workspace, session.id).await? else {
                return Ok((None, ()));
            };
            let mut change = ChangeSet::new(Family::Workspace(fresh.workspace));
            change.guards.push(Guard::Revision(Key::Session(fresh.id), fresh.revision));
            change.puts.push(Put::Session(Session {
                saved_at: Some(self.now()),
                revision: fresh.revision + 1,
                ..fresh
            }));
            Ok((Some(change), ()))
        })
        .await
        .map_err(into_port)
    }

    /// A pending snapshot whose time is over. An attempt that is still under way is refused from now on.
    async fn give_up_snapshot(&self, pending: &Snapshot) -> PortResult<()> {
        let why = failure(
            "snapshot_timeout",
            "The snapshot was not taken in time.",
            "Try again with `flare snapshot create`; `flare doctor` looks for causes.",
        );
        settled(self.fail_snapshot(pending, why, rules::TAKE_DEADLINE).await)
    }

    /// Sees to snapshots whose time is over: pending ones fail, others go, unless something needs them. Answers how many were
    /// seen to.
    pub(super) async fn reconcile_snapshots(&self) -> PortResult<u64> {
        let page = self.store().due_snapshots(self.now(), PAGE).await?;
        let mut done = 0;
        for due in &page.items {
            match self.end_of(due).await? {
                Over::Fail => self.give_up_snapshot(due).await?,
                Over::Delete => self.expire(due).await?,
                Over::PutOff => self.put_off(due).await?,
            }
            done += 1;
        }
        Ok(done)
    }

    async fn end_of(&self, due: &Snapshot) -> PortResult<Over> {
        if due.state == SnapshotState::Pending {
            return Ok(Over::Fail);
        }
        let Some(session) = self.store().session(due.workspace, due.session).await? else {
            return Ok(Over::Delete);
        };
        let all = self.store().snapshots(due.workspace, due.session, None, PAGE_LIMIT).await?.items;
        let needed = due.state == SnapshotState::Complete && rules::is_needed(&session, &all, due.id);
        Ok(if needed { Over::PutOff } else { Over::Delete })
    }

    async fn expire(&self, old: &Snapshot) -> PortResult<()> {
        if old.state == SnapshotState::Failed {
            // One whose packs were not forgotten in time, by a crash.
            self.forget_packs(old).await?;
        }
        let mut change = ChangeSet::new(Family::Workspace(old.workspace));
        if let Some(session) = self.store().session(old.workspace, old.session).await? {
            if [session.snapshot, session.restore].contains(&Some(old.id)) {
                return Ok(());
            }
            change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
            change.outbox.push((Effect::SweepPacks { lineage: session.lineage }, self.now()));
        }
        self.let_go(old, &mut change);
        change.audit.push(self.system_audit(
            old.workspace,
            "snapshot.expired",
            old.id,
            json!({ "session": old.session, "kind": old.kind }),
        ));
        self.unless_changed(change).await
    }

    async fn put_off(&self, needed: &Snapshot) -> PortResult<()> {
        let mut change = ChangeSet::new(Family::Workspace(needed.workspace));
        change.guards.push(Guard::Revision(Key::Snapshot(needed.id), needed.revision));
        change.puts.push(Put::Snapshot(Snapshot {
            due_at: Some(self.now().after(rules::LOOK_AGAIN)),
            revision: needed.revision + 1,
            ..needed.clone()
        }));
        self.unless_changed(change).await
    }

    async fn unless_changed(&self, change: ChangeSet) -> PortResult<()> {
        match self.commit(change).await {
            Ok(()) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Failed(error)) => Err(error),
        }
    }
}

/// Somebody else's commit in the same moment is as good.
fn settled(outcome: PortResult<()>) -> PortResult<()> {
    match outcome {
        Err(error) if is_refusal(&error) => Ok(()),
        other => other,
    }
}

fn is_refusal(error: &PortError) -> bool {
    error.operation() == "snapshot" && error.retry() == Retry::Later
}
