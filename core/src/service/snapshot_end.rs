//! How an attempt at a snapshot ends: complete, with nothing new, or failed.

use std::time::Duration;

use burstflare_ports::error::PortResult;
use burstflare_ports::record::{Effect, Failure, Session, Snapshot, SnapshotKind, SnapshotState};
use burstflare_ports::store::{Bump, ChangeSet, CommitError, Counter, Family, Guard, Key, PAGE_LIMIT, Put};
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::snapshot::FORMAT as PACKED;
use serde_json::json;

use super::ControlPlane;
use super::snapshot::event;
use super::snapshot_take::{Attempt, Mode, Stored, unexpected};
use crate::domain::plan::Plan;
use crate::domain::snapshot as rules;
use crate::error::{Error, Result};

/// Snapshots that one commit lets go; what is left goes with the next, or by its age.
const RETIRED: usize = 8;

impl ControlPlane {
    /// Completes a snapshot and makes it the one that the session's files go back to, in one commit with the end of older
    /// ones: at no moment does a session name a snapshot that is gone, nor one with a pack that may go.
    pub(super) async fn complete(
        &self,
        attempt: &Attempt,
        stored: &Stored,
        (began, mode): (Timestamp, Mode),
        plan: &Plan,
    ) -> Result<()> {
        self.commit_decided(|| async move {
            let now = self.now();
            let record = &attempt.record;
            let session = self.store().session(record.workspace, record.session).await?;
            let session = session.ok_or_else(|| Error::not_found("session"))?;
            let mut complete = Snapshot {
                state: SnapshotState::Complete,
                format: stored.summary.format,
                digest: stored.summary.digest.clone(),
                files: stored.summary.files,
                bytes: stored.summary.bytes,
                stored: stored.bytes,
                packed: stored.packed,
                verified_at: Some(now),
                revision: record.revision + 1,
                ..record.clone()
            };
            complete.due_at = plan.retention.ends(&complete, now);
            let mut change = attempt.change();
            change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
            if complete.format == PACKED {
                change.guards.push(Guard::Packed { snapshot: record.id, packs: stored.packs });
            }
            change.events.push(event("completed", &complete, now));
            change.audit.push(self.system_audit(
                record.workspace,
                "snapshot.completed",
                record.id,
                json!({ "session": session.id, "kind": record.kind, "digest": complete.digest }),
            ));
            change.puts.push(Put::Snapshot(complete.clone()));
            let next = Session {
                snapshot: Some(record.id),
                saved_at: Some(began),
                // Nobody writes to a quiet machine any more: even if its end is not seen, all of it is saved.
                unsaved: session.unsaved && mode == Mode::Live,
                revision: session.revision + 1,
                ..session
            };
            self.retire(&next, complete, plan, &mut change).await?;
            change.outbox.push((Effect::SweepPacks { lineage: next.lineage }, now));
            change.puts.push(Put::Session(next));
            Ok((Some(change), ()))
        })
        .await
    }

    /// Adds to the commit that completes a snapshot what may go by it.
    async fn retire(
        &self,
        session: &Session,
        newest: Snapshot,
        plan: &Plan,
        change: &mut ChangeSet,
    ) -> Result<()> {
        let page = self.store().snapshots(session.workspace, session.id, None, PAGE_LIMIT).await?;
        let mut all: Vec<_> = page.items.into_iter().filter(|old| old.id != newest.id).collect();
        all.push(newest);
        let goes = rules::to_retire(session, &all, &plan.retention, self.now());
        for old in all.iter().filter(|old| goes.contains(&old.id)).take(RETIRED) {
            self.let_go(old, change);
        }
        Ok(())
    }

    /// Forgets an attempt that found nothing new.
    pub(super) async fn discard(&self, attempt: &Attempt, began: Timestamp) -> Result<()> {
        self.commit_decided(|| async move {
            let record = &attempt.record;
            let session = self.store().session(record.workspace, record.session).await?;
            let session = session.ok_or_else(|| Error::not_found("session"))?;
            let mut change = ChangeSet::new(Family::Workspace(record.workspace));
            change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
            self.let_go(record, &mut change);
            // Attempts before this one may have stored what has gone again since.
            if record.revision > 1 {
                change.outbox.push((Effect::SweepPacks { lineage: session.lineage }, self.now()));
            }
            change.puts.push(Put::Session(Session {
                saved_at: Some(began),
                revision: session.revision + 1,
                ..session
            }));
            Ok((Some(change), ()))
        })
        .await
    }

    /// Ends a pending snapshot that will not be complete. Its packs are no longer named; its blob goes after `delay`.
    pub(super) async fn fail_snapshot(
        &self,
        pending: &Snapshot,
        why: Failure,
        delay: Duration,
    ) -> PortResult<()> {
        let now = self.now();
        let failed = Snapshot {
            state: SnapshotState::Failed,
            due_at: Some(now.after(rules::KEEP_FAILED)),
            failure: Some(why),
            revision: pending.revision + 1,
            ..pending.clone()
        };
        let mut change = ChangeSet::new(Family::Workspace(failed.workspace));
        change.guards.push(Guard::Revision(Key::Snapshot(failed.id), pending.revision));
        if failed.kind == SnapshotKind::Manual {
            change.bumps.push(Bump { counter: Counter::Snapshots(failed.session), by: -1 });
        }
        change.events.push(event("failed", &failed, now));
        change.audit.push(self.system_audit(
            failed.workspace,
            "snapshot.failed",
            failed.id,
            json!({ "session": failed.session, "failure": failed.failure }),
        ));
        change.outbox.push((Effect::DropSnapshot { blob: failed.blob.clone() }, now.after(delay)));
        change.puts.push(Put::Snapshot(failed.clone()));
        self.commit(change).await.map_err(unexpected)?;
        self.forget_packs(&failed).await
    }

    /// A failed snapshot names nothing any more.
    pub(super) async fn forget_packs(&self, failed: &Snapshot) -> PortResult<()> {
        let Some(session) = self.store().session(failed.workspace, failed.session).await? else {
            return Ok(());
        };
        loop {
            let page = self.store().packs_of(failed.workspace, failed.id, None, PAGE_LIMIT).await?;
            let mut change = ChangeSet::new(Family::Workspace(failed.workspace));
            change.guards.push(Guard::Revision(Key::Snapshot(failed.id), failed.revision));
            change.deletes.extend(page.items.iter().map(|pack| Key::SnapshotPack(failed.id, pack.id)));
            if !page.more {
                change.outbox.push((Effect::SweepPacks { lineage: session.lineage }, self.now()));
            }
            if page.items.is_empty() {
                return Ok(());
            }
            match self.commit(change).await {
                Ok(()) if page.more => {}
                // Somebody removed the whole record meanwhile.
                Ok(()) | Err(CommitError::Refused(_)) => return Ok(()),
                Err(CommitError::Failed(error)) => return Err(error),
            }
        }
    }
}
