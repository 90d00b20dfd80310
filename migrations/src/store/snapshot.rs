use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Session, Snapshot, Workspace};
use burstflare_ports::store::{Page, Snapshots};

use super::{SqlStore, newest_first, params};
use crate::database::Database;
use crate::table::{SNAPSHOT, SNAPSHOTS};

#[async_trait]
impl<D: Database> Snapshots for SqlStore<D> {
    async fn snapshot(&self, workspace: Id<Workspace>, id: Id<Snapshot>) -> PortResult<Option<Snapshot>> {
        self.one(SNAPSHOT, params![workspace, id]).await
    }

    async fn snapshots(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        after: Option<Id<Snapshot>>,
        limit: usize,
    ) -> PortResult<Page<Snapshot>> {
        self.page(SNAPSHOTS, params![workspace, session, newest_first(after)], limit).await
    }
}
