use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Pack, Session, Snapshot, Workspace};
use burstflare_ports::store::{Packs, Page};
use burstflare_ports::time::Timestamp;

use super::{SqlStore, newest_first, oldest_first, params};
use crate::database::Database;
use crate::table::{ALL_PACKS, CONDEMNED_PACKS, PACK, PACKS_IN, PACKS_OF, UNREFERENCED_PACKS};

#[async_trait]
impl<D: Database> Packs for SqlStore<D> {
    async fn pack(&self, workspace: Id<Workspace>, id: Id<Pack>) -> PortResult<Option<Pack>> {
        self.one(PACK, params![workspace, id]).await
    }

    async fn packs_of(
        &self,
        workspace: Id<Workspace>,
        snapshot: Id<Snapshot>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        self.page(PACKS_OF, params![workspace, snapshot, newest_first(after)], limit).await
    }

    async fn packs_in(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        self.page(PACKS_IN, params![workspace, lineage, newest_first(after)], limit).await
    }

    async fn all_packs(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        self.page(ALL_PACKS, params![workspace, oldest_first(after)], limit).await
    }

    async fn unreferenced_packs(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        self.page(UNREFERENCED_PACKS, params![workspace, lineage], limit).await
    }

    async fn condemned_packs(&self, by: Timestamp, limit: usize) -> PortResult<Page<Pack>> {
        self.page(CONDEMNED_PACKS, params![by], limit).await
    }
}
