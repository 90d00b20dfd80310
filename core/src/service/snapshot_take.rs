//! Taking a snapshot, attempt by attempt.
//!
//! The pending record is the wish and the lease in one: every commit of an attempt is guarded by its revision, and
//! beginning an attempt counts that up, so a straggler of an earlier one changes nothing any more. Whatever
//! packs were stored before an attempt was cut off are there for the next.

use std::sync::PoisonError;
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult, Retry};
use burstflare_ports::id::Id;
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{
    Effect, PackState, Session, SharedPacks, Snapshot, SnapshotKind, SnapshotState,
};
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, PAGE_LIMIT, Put, Unique};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::Ready;
use burstflare_ports::wire::snapshot::{CAPABILITY, FORMAT as PACKED};
use burstflare_ports::wire::tree::{FORMAT, Summary};
use futures_util::future::{Either, select};
use futures_util::pin_mut;

use super::snapshot::event;
use super::{ControlPlane, failure, into_port};
use crate::domain::plan::Plan;
use crate::domain::snapshot as rules;
use crate::error::Result;

/// The newest packs of an attempt, among which those are that it was storing: one at a time.
const NEWEST: usize = 8;

/// Whether anybody may still be writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The machine is quiet and about to end.
    Quiet,
    /// It is at work.
    Live,
}

/// An attempt that has begun.
pub(super) struct Attempt {
    /// The pending record, as this attempt has committed it.
    pub(super) record: Snapshot,
    /// The snapshot it is taken on top of, whose packs it names already.
    pub(super) parent: Option<Snapshot>,
}

impl Attempt {
    /// A change that only this attempt can commit.
    pub(super) fn change(&self) -> ChangeSet {
        let mut change = ChangeSet::new(Family::Workspace(self.record.workspace));
        change.guards.push(Guard::Revision(Key::Snapshot(self.record.id), self.record.revision));
        change
    }
}

/// What an attempt has stored.
pub(super) struct Stored {
    pub(super) summary: Summary,
    /// Bytes of the archive or manifest.
    pub(super) bytes: u64,
    /// Packs that it names, and their bytes.
    pub(super) packs: u64,
    pub(super) packed: u64,
    /// Whether the machine had anything that was not stored yet.
    pub(super) is_new: bool,
}

impl ControlPlane {
    /// Takes the session's pending snapshot, or begins one. `None` where it is not worth keeping: one by time that shows
    /// what its parent shows.
    pub(super) async fn take_snapshot(
        &self,
        session: &Session,
        target: &AgentTarget,
        ready: &Ready,
        (kind, mode): (SnapshotKind, Mode),
        plan: &Plan,
    ) -> PortResult<Option<Id<Snapshot>>> {
        let speaks_packs = ready.capabilities.iter().any(|name| name == CAPABILITY);
        let attempt = self.begin_attempt(session, kind, mode, speaks_packs).await?;
        let outcome = self.finish_attempt(session, target, &attempt, mode, plan).await;
        match outcome {
            // It stays pending for the next attempt.
            Err(error)
                if error.retry() == Retry::Later && !rules::is_overdue(&attempt.record, self.now()) =>
            {
                Err(error)
            }
            Err(error) => {
                let why = failure(
                    "snapshot_failed",
                    &format!("The snapshot could not be taken: {error}."),
                    "Try again; `flare doctor` looks for causes.",
                );
                if let Err(unrecorded) = self.fail_snapshot(&attempt.record, why, Duration::ZERO).await {
                    tracing::debug!(snapshot = %attempt.record.id, error = %unrecorded, "left to reconcile");
                }
                Err(error)
            }
            done => done,
        }
    }

    async fn begin_attempt(
        &self,
        session: &Session,
        kind: SnapshotKind,
        mode: Mode,
        speaks_packs: bool,
    ) -> PortResult<Attempt> {
        let now = self.now();
        let (workspace, deadline) = (session.workspace, Some(now.after(rules::TAKE_DEADLINE)));
        let parent = if speaks_packs { self.parent_of(session).await? } else { None };
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        let pending = self.store().pending_snapshot(workspace, session.id).await?;
        let begun = match pending {
            Some(before) => {
                change.guards.push(Guard::Revision(Key::Snapshot(before.id), before.revision));
                if before.format > 0 {
                    // The attempt before may still be about to store it.
                    let blob = before.blob.clone();
                    change.outbox.push((Effect::DropSnapshot { blob }, now.after(rules::TAKE_DEADLINE)));
                    if self.forget_storing(&before, &mut change).await? {
                        change.outbox.push((Effect::SweepPacks { lineage: session.lineage }, now));
                    }
                }
                let due_at = if mode == Mode::Quiet { deadline } else { before.due_at };
                Snapshot { due_at, revision: before.revision + 1, ..before }
            }
            None => self.new_snapshot(session, kind, now).map_err(into_port)?,
        };
        if begun.revision == 1 {
            change.guards.push(Guard::Absent(Key::Snapshot(begun.id)));
            change.guards.push(Guard::Free(Unique::PendingSnapshot(session.id)));
            // One by time may turn out to show nothing new: then nobody hears of it.
            if mode == Mode::Quiet {
                change.events.push(event("created", &begun, now));
            }
        }
        let name = format!("{workspace}/snapshots/{}/{}-{}", session.id, begun.id, begun.revision);
        let record = Snapshot {
            format: if speaks_packs { PACKED } else { FORMAT },
            parent: parent.as_ref().map(|parent| parent.id),
            blob: super::version::blob_key(&name).map_err(into_port)?,
            epoch: session.epoch,
            ..begun
        };
        change.puts.push(Put::Snapshot(record.clone()));
        if let Some(parent) = &parent {
            change.guards.push(Guard::Revision(Key::Snapshot(parent.id), parent.revision));
            let (from, to) = (parent.id, record.id);
            change.puts.push(Put::SharedPacks(SharedPacks { workspace, from, to }));
        }
        self.commit(change).await.map_err(unexpected)?;
        Ok(Attempt { record, parent })
    }

    /// A pending snapshot that nobody has tried to take yet.
    pub(super) fn new_snapshot(
        &self,
        session: &Session,
        kind: SnapshotKind,
        now: burstflare_ports::time::Timestamp,
    ) -> Result<Snapshot> {
        let id = self.new_id(now)?;
        Ok(Snapshot {
            id,
            workspace: session.workspace,
            session: session.id,
            kind,
            state: SnapshotState::Pending,
            label: None,
            parent: None,
            format: 0,
            blob: super::version::blob_key(&format!("{}/snapshots/{}/{id}", session.workspace, session.id))?,
            digest: String::new(),
            files: 0,
            bytes: 0,
            stored: 0,
            packed: 0,
            epoch: session.epoch,
            verified_at: None,
            due_at: Some(now.after(rules::TAKE_DEADLINE)),
            failure: None,
            created_at: now,
            revision: 1,
        })
    }

    /// What the session's files were like last, if that is in packs, and not in too many.
    async fn parent_of(&self, session: &Session) -> PortResult<Option<Snapshot>> {
        let Some(id) = session.snapshot else { return Ok(None) };
        let parent = self.store().snapshot(session.workspace, id).await?;
        let is_fit = |found: &Snapshot| found.state == SnapshotState::Complete && found.format == PACKED;
        let Some(parent) = parent.filter(is_fit) else { return Ok(None) };
        let (mut after, mut count) = (None, 0);
        loop {
            let page = self.store().packs_of(session.workspace, id, after, PAGE_LIMIT).await?;
            count += page.items.len() as u64;
            after = page.items.last().map(|pack| pack.id);
            if rules::is_scattered(count, parent.packed) {
                return Ok(None);
            }
            if !page.more {
                return Ok(Some(parent));
            }
        }
    }

    /// Adds to the next attempt's beginning that packs which the last one was storing are not its own; answers whether
    /// there are any, which nothing names then.
    async fn forget_storing(&self, before: &Snapshot, change: &mut ChangeSet) -> PortResult<bool> {
        // An attempt stores one pack at a time, and the newest last.
        let page = self.store().packs_of(before.workspace, before.id, None, NEWEST).await?;
        for pack in page.items.iter().filter(|pack| pack.state == PackState::Storing) {
            change.deletes.push(Key::SnapshotPack(before.id, pack.id));
        }
        Ok(!change.deletes.is_empty())
    }

    async fn finish_attempt(
        &self,
        session: &Session,
        target: &AgentTarget,
        attempt: &Attempt,
        mode: Mode,
        plan: &Plan,
    ) -> PortResult<Option<Id<Snapshot>>> {
        let began = self.now();
        let stored = self.in_time(attempt, self.store_files(session, target, attempt, plan)).await?;
        let by_time = mode == Mode::Live && attempt.record.kind == SnapshotKind::Auto;
        let is_same = !stored.is_new
            && attempt.parent.as_ref().is_some_and(|parent| parent.digest == stored.summary.digest);
        if by_time && is_same {
            self.discard(attempt, began).await.map_err(into_port)?;
            return Ok(None);
        }
        self.complete(attempt, &stored, (began, mode), plan).await.map_err(into_port)?;
        Ok(Some(attempt.record.id))
    }

    async fn store_files(
        &self,
        session: &Session,
        target: &AgentTarget,
        attempt: &Attempt,
        plan: &Plan,
    ) -> PortResult<Stored> {
        if attempt.record.format == PACKED {
            return self.store_packs(session, target, attempt, plan).await;
        }
        let (summary, bytes) = self.store_tree(target, &attempt.record.blob, plan.snapshot).await?;
        Ok(Stored { summary, bytes, packs: 0, packed: 0, is_new: true })
    }

    /// Ends work when the snapshot's time is over.
    async fn in_time<T>(
        &self,
        attempt: &Attempt,
        work: impl Future<Output = PortResult<T>> + Send,
    ) -> PortResult<T> {
        let now = self.now();
        let over =
            self.ports().clock.sleep(attempt.record.due_at.map_or(rules::TAKE_DEADLINE, |at| at.since(now)));
        pin_mut!(work, over);
        match select(work, over).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => {
                Err(PortError::new(ErrorKind::Timeout, "snapshot.take", "it took longer than it may"))
            }
        }
    }

    /// Streams a machine's tree into a blob and checks that what was stored is what the agent sent.
    pub(super) async fn store_tree(
        &self,
        target: &AgentTarget,
        blob: &burstflare_ports::blob::BlobKey,
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

pub(super) fn unexpected(error: CommitError) -> PortError {
    match error {
        CommitError::Failed(error) => error,
        CommitError::Refused(guard) => {
            PortError::new(ErrorKind::Unavailable, "snapshot", format!("changed meanwhile: {guard:?}"))
        }
    }
}
