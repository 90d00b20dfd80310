use async_trait::async_trait;

use super::{older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Session, Snapshot, Workspace};
use crate::store::{Page, Snapshots};

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
}
