//! Snapshots: the whole tree of a session as one archive, verified before anything older may go.

use std::sync::PoisonError;

use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{Effect, Event, Session, Snapshot, SnapshotKind, SnapshotState};
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, Put};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::tree::{FORMAT, Summary};
use serde_json::json;

use super::into_port;
use super::paging::list;
use super::{Caller, ControlPlane, List, PageQuery};
use crate::domain::permission::{Action, Relation};
use crate::domain::plan::Plan;
use crate::error::{Error, Result};

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

    /// Takes a snapshot: a pending record, the archive, the verified complete record; then older ones go.
    pub(super) async fn take_snapshot(
        &self,
        session: &Session,
        target: &AgentTarget,
        kind: SnapshotKind,
        plan: &Plan,
    ) -> PortResult<Id<Snapshot>> {
        let now = self.now();
        let id: Id<Snapshot> = self.new_id(now).map_err(into_port)?;
        let blob =
            super::version::blob_key(&format!("{}/snapshots/{}/{id}.tar.zst", session.workspace, session.id))
                .map_err(into_port)?;
        let pending = Snapshot {
            id,
            workspace: session.workspace,
            session: session.id,
            kind,
            state: SnapshotState::Pending,
            label: None,
            parent: session.snapshot,
            format: FORMAT,
            blob: blob.clone(),
            digest: String::new(),
            files: 0,
            bytes: 0,
            stored: 0,
            packed: 0,
            epoch: session.epoch,
            verified_at: None,
            due_at: Some(now.after(crate::domain::snapshot::TAKE_DEADLINE)),
            failure: None,
            created_at: now,
            revision: 1,
        };
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.guards.push(Guard::Absent(Key::Snapshot(id)));
        if let Some(cut_off) = self.store().pending_snapshot(session.workspace, session.id).await? {
            let failed = Snapshot { state: SnapshotState::Failed, revision: cut_off.revision + 1, ..cut_off };
            change.guards.push(Guard::Revision(Key::Snapshot(failed.id), failed.revision - 1));
            change.puts.push(Put::Snapshot(failed));
        }
        change.puts.push(Put::Snapshot(pending.clone()));
        self.commit(change).await.map_err(unexpected)?;

        let (summary, stored) = match self.store_tree(target, &blob, plan.snapshot).await {
            Ok(stored) => stored,
            Err(error) => {
                let failed = Snapshot { state: SnapshotState::Failed, revision: 2, ..pending };
                let change = self.snapshot_change(&failed);
                if let Err(unrecorded) = self.commit(change).await {
                    // It stays pending, and goes with the next one that succeeds.
                    tracing::debug!(snapshot = %id, error = %unrecorded, "failed snapshot not marked");
                }
                return Err(error);
            }
        };
        let complete = Snapshot {
            state: SnapshotState::Complete,
            format: summary.format,
            digest: summary.digest,
            files: summary.files,
            bytes: summary.bytes,
            stored,
            revision: 2,
            ..pending
        };
        self.complete(&complete, plan).await.map_err(into_port)?;
        Ok(id)
    }

    /// Completes a snapshot and makes it the session's newest, in one commit with the end of older ones: at no
    /// moment does a session name a snapshot that is gone.
    async fn complete(&self, snapshot: &Snapshot, plan: &Plan) -> Result<()> {
        self.commit_decided(|| async move {
            let session = self.store().session(snapshot.workspace, snapshot.session).await?;
            let session = session.ok_or_else(|| Error::not_found("session"))?;
            let mut change = self.snapshot_change(snapshot);
            change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
            self.retire(&session, snapshot.id, plan, &mut change).await?;
            change.puts.push(Put::Session(Session {
                snapshot: Some(snapshot.id),
                revision: session.revision + 1,
                ..session
            }));
            Ok((Some(change), ()))
        })
        .await
    }

    /// The commit of a pending snapshot's end.
    fn snapshot_change(&self, next: &Snapshot) -> ChangeSet {
        let mut change = ChangeSet::new(Family::Workspace(next.workspace));
        change.guards.push(Guard::Revision(Key::Snapshot(next.id), next.revision - 1));
        change.events.push(Event {
            kind: "snapshot.state".to_owned(),
            subject: next.id.to_string(),
            data: json!({ "session": next.session, "state": next.state, "bytes": next.bytes }),
            at: self.now(),
        });
        change.puts.push(Put::Snapshot(next.clone()));
        change
    }

    /// Adds to the commit that completes a snapshot what may go by it: automatic ones beyond the plan's number, and
    /// what never became complete.
    async fn retire(
        &self,
        session: &Session,
        newest: Id<Snapshot>,
        plan: &Plan,
        change: &mut ChangeSet,
    ) -> PortResult<()> {
        let page = self.store().snapshots(session.workspace, session.id, None, 200).await?;
        let mut kept = 1;
        for old in page.items.into_iter().filter(|old| old.id != newest) {
            let goes = match (old.kind, old.state) {
                (SnapshotKind::Auto, SnapshotState::Complete) => {
                    kept += 1;
                    kept > plan.auto_snapshots
                }
                // One writer per session: a pending one that is not ours was cut off.
                (_, SnapshotState::Pending | SnapshotState::Failed) => true,
                _ => false,
            };
            if goes && session.restore != Some(old.id) {
                change.deletes.push(Key::Snapshot(old.id));
                change.outbox.push((Effect::DeleteBlob { blob: old.blob }, self.now()));
            }
        }
        Ok(())
    }

    /// Streams a machine's tree into a blob and checks that what was stored is what the agent sent.
    pub(super) async fn store_tree(
        &self,
        target: &AgentTarget,
        blob: &BlobKey,
        limit: u64,
    ) -> PortResult<(Summary, u64)> {
        let (archive, summary) = self.agent_capture(target).await?;
        let info = self.ports().blobs.put(blob, Body::Stream(archive), limit).await?;
        let summary = summary.lock().unwrap_or_else(PoisonError::into_inner).take();
        let corrupt = |what: &str| PortError::new(ErrorKind::Corrupt, "tree.store", what);
        let summary = summary.ok_or_else(|| corrupt("the archive came without a summary"))?;
        if summary.archive_blake3.as_deref() != Some(info.blake3.as_str()) {
            self.drop_blob(blob).await;
            return Err(corrupt("what was stored is not what was sent"));
        }
        if summary.format > FORMAT {
            self.drop_blob(blob).await;
            return Err(corrupt("the archive has a newer format"));
        }
        Ok((summary, info.size))
    }
}

fn unexpected(error: CommitError) -> PortError {
    match error {
        CommitError::Failed(error) => error,
        CommitError::Refused(guard) => {
            PortError::new(ErrorKind::Unavailable, "snapshot", format!("changed meanwhile: {guard:?}"))
        }
    }
}
