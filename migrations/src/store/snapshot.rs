use async_trait::async_trait;
use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Session, Snapshot, Workspace};
use burstflare_ports::store::{Page, Snapshots};
use burstflare_ports::text::Label;
use burstflare_ports::time::Timestamp;

use super::{SqlStore, newest_first, params};
use crate::database::Database;
use crate::table::{
    DUE_SNAPSHOTS, PENDING_SNAPSHOT, SNAPSHOT, SNAPSHOT_NAMES, SNAPSHOTS, SNAPSHOTS_BY_LABEL,
};

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

    async fn snapshots_by_label(
        &self,
        workspace: Id<Workspace>,
        label: &Label,
        limit: usize,
    ) -> PortResult<Page<Snapshot>> {
        self.page(SNAPSHOTS_BY_LABEL, params![workspace, label], limit).await
    }

    async fn pending_snapshot(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
    ) -> PortResult<Option<Snapshot>> {
        self.one(PENDING_SNAPSHOT, params![workspace, session]).await
    }

    async fn snapshot_names(&self, workspace: Id<Workspace>, blob: &BlobKey) -> PortResult<bool> {
        self.any(SNAPSHOT_NAMES, params![workspace, blob]).await
    }

    async fn due_snapshots(&self, now: Timestamp, limit: usize) -> PortResult<Page<Snapshot>> {
        self.page(DUE_SNAPSHOTS, params![now], limit).await
    }
}
