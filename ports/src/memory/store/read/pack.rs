use async_trait::async_trait;

use super::{newer, older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Pack, PackState, Session, Snapshot, Workspace};
use crate::store::{Packs, Page};
use crate::time::Timestamp;

#[async_trait]
impl Packs for MemoryStore {
    async fn pack(&self, workspace: Id<Workspace>, id: Id<Pack>) -> PortResult<Option<Pack>> {
        Ok(locked(&self.state).tables.packs.get(&(workspace, id)).cloned())
    }

    async fn packs_of(
        &self,
        workspace: Id<Workspace>,
        snapshot: Id<Snapshot>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        let tables = locked(&self.state).tables.clone();
        let named = tables.snapshot_packs.keys().rev().filter(|key| (key.0, key.1) == (workspace, snapshot));
        let packs =
            named.filter(|key| older(key.2, after)).filter_map(|key| tables.packs.get(&(key.0, key.2)));
        page(packs.cloned(), limit)
    }

    async fn packs_in(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Pack| row.workspace == workspace && row.lineage == lineage && older(row.id, after);
        page(tables.packs.values().rev().filter(wanted).cloned(), limit)
    }

    async fn all_packs(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Pack| row.workspace == workspace && newer(row.id, after);
        page(tables.packs.values().filter(wanted).cloned(), limit)
    }

    async fn unreferenced_packs(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        let tables = locked(&self.state).tables.clone();
        let named =
            |row: &Pack| tables.snapshot_packs.keys().any(|key| key.0 == row.workspace && key.2 == row.id);
        let wanted = |row: &&Pack| {
            row.workspace == workspace
                && row.lineage == lineage
                && row.state != PackState::Condemned
                && !named(row)
        };
        page(tables.packs.values().rev().filter(wanted).cloned(), limit)
    }

    async fn condemned_packs(&self, by: Timestamp, limit: usize) -> PortResult<Page<Pack>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Pack| row.state == PackState::Condemned && row.condemned_at.is_some_and(|at| at <= by);
        let mut found: Vec<_> = tables.packs.values().filter(wanted).cloned().collect();
        found.sort_by_key(|row| (row.condemned_at, row.id));
        page(found.into_iter(), limit)
    }
}
