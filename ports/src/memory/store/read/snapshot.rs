use async_trait::async_trait;

use super::{older, page};
use crate::blob::BlobKey;
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Session, Snapshot, SnapshotState, Workspace};
use crate::store::{Page, Snapshots};
use crate::text::Label;
use crate::time::Timestamp;

#[async_trait]
impl Snapshots for MemoryStore {
    async fn snapshot(&self, workspace: Id<Workspace>, id: Id<Snapshot>) -> PortResult<Option<Snapshot>> {
        Ok(locked(&self.state).tables.snapshots.get(&(workspace, id)).cloned())
    }

    async fn snapshots(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        after: Option<Id<Snapshot>>,
        limit: usize,
    ) -> PortResult<Page<Snapshot>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Snapshot| row.workspace == workspace && row.session == session && older(row.id, after);
        page(tables.snapshots.values().rev().filter(wanted).cloned(), limit)
    }

    async fn snapshots_by_label(
        &self,
        workspace: Id<Workspace>,
        label: &Label,
        limit: usize,
    ) -> PortResult<Page<Snapshot>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Snapshot| row.workspace == workspace && row.label.as_ref() == Some(label);
        page(tables.snapshots.values().rev().filter(wanted).cloned(), limit)
    }

    async fn pending_snapshot(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
    ) -> PortResult<Option<Snapshot>> {
        let tables = locked(&self.state).tables.clone();
        let mut of = tables.snapshots.values().filter(|row| row.workspace == workspace);
        Ok(of.find(|row| row.session == session && row.state == SnapshotState::Pending).cloned())
    }

    async fn snapshot_names(&self, workspace: Id<Workspace>, blob: &BlobKey) -> PortResult<bool> {
        let tables = locked(&self.state).tables.clone();
        Ok(tables
            .snapshots
            .values()
            .any(|row| row.workspace == workspace && row.blob == *blob && row.state != SnapshotState::Failed))
    }

    async fn due_snapshots(&self, now: Timestamp, limit: usize) -> PortResult<Page<Snapshot>> {
        let tables = locked(&self.state).tables.clone();
        let is_due = |row: &&Snapshot| row.due_at.is_some_and(|at| at <= now);
        let mut due: Vec<_> = tables.snapshots.values().filter(is_due).cloned().collect();
        due.sort_by_key(|row| (row.due_at, row.id));
        page(due.into_iter(), limit)
    }
}
