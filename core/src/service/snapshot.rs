//! Snapshots as people see them: list, ask for, name, delete.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Effect, Event, Session, SessionState, Snapshot, SnapshotKind, SnapshotState, Workspace,
};
use burstflare_ports::store::{Bump, ChangeSet, Counter, Family, Guard, Key, Put, Unique};
use burstflare_ports::text::Label;
use burstflare_ports::time::Timestamp;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use serde_json::json;

use super::paging::list;
use super::{Caller, ControlPlane, List, PageQuery};
use crate::domain::permission::{Action, Relation};
use crate::error::{Error, Kind, Result};

/// How often a snapshot that is waited for is looked at without a hint.
const LOOK: Duration = Duration::from_secs(5);

impl ControlPlane {
    /// The snapshots of a session.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn snapshots(
        &self,
        caller: &Caller,
        session: &str,
        page: PageQuery<Id<Snapshot>>,
    ) -> Result<List<Snapshot, Id<Snapshot>>> {
        caller.may(Action::Read, Relation::Own)?;
        let session = self.find_session(caller.workspace.id, session).await?;
        let found = self.store().snapshots(session.workspace, session.id, page.after, page.limit).await?;
        Ok(list(found, |snapshot| snapshot.id))
    }

    /// A snapshot by id, or by a label that one snapshot alone has.
    ///
    /// # Errors
    /// `NotFound`, `label_ambiguous`.
    pub async fn snapshot(&self, caller: &Caller, reference: &str) -> Result<Snapshot> {
        caller.may(Action::Read, Relation::Own)?;
        self.find_snapshot(caller.workspace.id, reference).await
    }

    /// Wants a snapshot of a running session. It is pending until the session's actor has taken it.
    ///
    /// # Errors
    /// `session_not_running`, `snapshot_pending`, `quota_exceeded`, `invalid` for a label that looks like an id.
    pub async fn create_snapshot(
        &self,
        caller: &Caller,
        session: &str,
        label: Option<Label>,
    ) -> Result<Snapshot> {
        check_label(label.as_ref())?;
        self.commit_decided(|| {
            let label = label.clone();
            async move {
                let session = self.find_session(caller.workspace.id, session).await?;
                caller.may_session(Action::SessionControl, &session)?;
                if session.state != SessionState::Running {
                    return Err(Error::conflict(
                        "session_not_running",
                        format!("The session is {:?}: its files do not change.", session.state)
                            .to_lowercase(),
                        "Start it first. What it had when it was stopped is in its newest snapshot.",
                    ));
                }
                let now = self.now();
                let wanted = Snapshot { label, ..self.new_snapshot(&session, SnapshotKind::Manual, now)? };
                let counter = Counter::Snapshots(session.id);
                let mut change = ChangeSet::new(Family::Workspace(session.workspace));
                change.guards = vec![
                    // Whatever ends its running in the same moment is seen first.
                    Guard::Revision(Key::Session(session.id), session.revision),
                    Guard::Absent(Key::Snapshot(wanted.id)),
                    Guard::Free(Unique::PendingSnapshot(session.id)),
                    Guard::Below { counter, by: 1, limit: caller.plan().snapshots },
                ];
                change.puts.push(Put::Snapshot(wanted.clone()));
                change.bumps.push(Bump { counter, by: 1 });
                change.outbox.push((Effect::WakeSession { session: session.id }, now));
                change.events.push(event("created", &wanted, now));
                change.audit.push(caller.audit(
                    self,
                    "snapshot.create",
                    wanted.id,
                    json!({ "session": session.id, "label": wanted.label }),
                ));
                Ok((Some(change), wanted))
            }
        })
        .await
    }

    /// Waits until a snapshot is no longer pending, but not longer than `patience`; answers it as it is then. Dropping
    /// this ends the waiting, not the snapshot.
    ///
    /// # Errors
    /// `NotFound` when it is removed meanwhile.
    pub async fn await_snapshot(
        &self,
        caller: &Caller,
        id: Id<Snapshot>,
        patience: Duration,
    ) -> Result<Snapshot> {
        caller.may(Action::Read, Relation::Own)?;
        let clock = &self.ports().clock;
        let until = clock.now().after(patience);
        let mut hints = self.ports().feed.subscribe(caller.workspace.id).await?;
        loop {
            let found = self.store().snapshot(caller.workspace.id, id).await?;
            let found = found.ok_or_else(|| Error::not_found("snapshot"))?;
            let left = until.since(clock.now());
            if found.state != SnapshotState::Pending || left.is_zero() {
                return Ok(found);
            }
            let pause = clock.sleep(left.min(LOOK));
            let hint = hints.next();
            pin_mut!(pause, hint);
            if let Either::Left((None, pause)) = select(hint, pause).await {
                // Nobody will hint any more.
                pause.await;
            }
        }
    }

    /// Names a snapshot, or takes its name away. A named one is kept until somebody deletes it.
    ///
    /// # Errors
    /// `NotFound`, `snapshot_pending`, `invalid` for a label that looks like an id.
    pub async fn label_snapshot(
        &self,
        caller: &Caller,
        reference: &str,
        label: Option<Label>,
    ) -> Result<Snapshot> {
        check_label(label.as_ref())?;
        self.commit_decided(|| {
            let label = label.clone();
            async move {
                let (found, _) = self.own_snapshot(caller, reference, Action::SessionControl).await?;
                if found.state == SnapshotState::Pending {
                    return Err(pending());
                }
                if found.label == label {
                    return Ok((None, found));
                }
                let now = self.now();
                let mut change = ChangeSet::new(Family::Workspace(found.workspace));
                change.guards.push(Guard::Revision(Key::Snapshot(found.id), found.revision));
                change.audit.push(caller.audit(
                    self,
                    "snapshot.label",
                    found.id,
                    json!({ "before": found.label, "after": label }),
                ));
                let mut next = Snapshot { label, revision: found.revision + 1, ..found };
                if next.state == SnapshotState::Complete {
                    next.due_at = caller.plan().retention.ends(&next, now);
                }
                change.events.push(event("labelled", &next, now));
                change.puts.push(Put::Snapshot(next.clone()));
                Ok((Some(change), next))
            }
        })
        .await
    }

    /// Deletes a snapshot. What other snapshots share with it stays.
    ///
    /// # Errors
    /// `NotFound`, `snapshot_pending`, `snapshot_in_use`.
    pub async fn delete_snapshot(&self, caller: &Caller, reference: &str) -> Result<Snapshot> {
        self.commit_decided(|| async move {
            let (found, session) = self.own_snapshot(caller, reference, Action::SessionManage).await?;
            if found.state == SnapshotState::Pending {
                return Err(pending());
            }
            if [session.snapshot, session.restore].contains(&Some(found.id)) {
                return Err(Error::conflict(
                    "snapshot_in_use",
                    "The session's files go back to this snapshot if its disk is lost.",
                    "Take another one first: `flare snapshot create`; or delete the whole session.",
                ));
            }
            let mut change = ChangeSet::new(Family::Workspace(found.workspace));
            // It may become the one in use in the same moment.
            change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
            self.let_go(&found, &mut change);
            change.outbox.push((Effect::SweepPacks { lineage: session.lineage }, self.now()));
            change.audit.push(caller.audit(
                self,
                "snapshot.delete",
                found.id,
                json!({ "session": session.id, "label": found.label, "kind": found.kind }),
            ));
            Ok((Some(change), found))
        })
        .await
    }

    /// Adds to a commit that a snapshot goes, where nobody has changed it.
    pub(super) fn let_go(&self, old: &Snapshot, change: &mut ChangeSet) {
        let now = self.now();
        change.guards.push(Guard::Revision(Key::Snapshot(old.id), old.revision));
        change.deletes.push(Key::Snapshot(old.id));
        // A failed one has no blob any more, and does not count.
        if old.state != SnapshotState::Failed {
            change.outbox.push((Effect::DropSnapshot { blob: old.blob.clone() }, now));
            if old.kind == SnapshotKind::Manual {
                change.bumps.push(Bump { counter: Counter::Snapshots(old.session), by: -1 });
            }
        }
        if old.state != SnapshotState::Pending {
            change.events.push(event("deleted", old, now));
        }
    }

    /// A snapshot and its session, where the caller may do that to the session.
    pub(super) async fn own_snapshot(
        &self,
        caller: &Caller,
        reference: &str,
        action: Action,
    ) -> Result<(Snapshot, Session)> {
        let found = self.find_snapshot(caller.workspace.id, reference).await?;
        let session = self.store().session(found.workspace, found.session).await?;
        let session = session.ok_or_else(|| Error::not_found("snapshot"))?;
        caller.may_session(action, &session)?;
        Ok((found, session))
    }

    pub(super) async fn find_snapshot(&self, workspace: Id<Workspace>, reference: &str) -> Result<Snapshot> {
        let not_found = || Error::not_found("snapshot");
        if let Ok(id) = reference.parse::<Id<Snapshot>>() {
            return self.store().snapshot(workspace, id).await?.ok_or_else(not_found);
        }
        let label = reference.parse::<Label>().map_err(|_| not_found())?;
        let mut found = self.store().snapshots_by_label(workspace, &label, 2).await?.items;
        if found.len() > 1 {
            return Err(Error::new(
                Kind::Conflict,
                "label_ambiguous",
                format!("Several snapshots are called `{label}`."),
                "Name it by its id: `flare snapshot list`.",
            ));
        }
        found.pop().ok_or_else(not_found)
    }
}

fn check_label(label: Option<&Label>) -> Result<()> {
    match label {
        Some(label) if label.as_str().starts_with("snp_") => {
            Err(Error::invalid("label", "a label does not begin like an id (`snp_`)"))
        }
        _ => Ok(()),
    }
}

fn pending() -> Error {
    Error::conflict(
        "snapshot_pending",
        "The snapshot is being taken.",
        "Wait for it to end: `flare snapshot list`.",
    )
}

/// What listeners are told of a snapshot.
pub(super) fn event(what: &str, snapshot: &Snapshot, at: Timestamp) -> Event {
    Event {
        kind: format!("snapshot.{what}"),
        subject: snapshot.id.to_string(),
        data: json!({
            "session": snapshot.session,
            "kind": snapshot.kind,
            "state": snapshot.state,
            "label": snapshot.label,
            "files": snapshot.files,
            "bytes": snapshot.bytes,
            "failure": snapshot.failure,
        }),
        at,
    }
}
