use async_trait::async_trait;

use super::page;
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, checked, locked};
use crate::record::{StoredAudit, StoredEvent, Workspace};
use crate::store::{Journal, Page};

#[async_trait]
impl Journal for MemoryStore {
    async fn events(
        &self,
        workspace: Id<Workspace>,
        after: u64,
        limit: usize,
    ) -> PortResult<Vec<StoredEvent>> {
        let limit = checked(limit)?;
        let state = locked(&self.state);
        let of = state.events.iter().filter(|(home, stored)| *home == workspace && stored.seq > after);
        Ok(of.take(limit).map(|(_, stored)| stored.clone()).collect())
    }

    async fn last_event(&self, workspace: Id<Workspace>) -> PortResult<u64> {
        let state = locked(&self.state);
        Ok(state.events.iter().rev().find(|(home, _)| *home == workspace).map_or(0, |(_, stored)| stored.seq))
    }

    async fn audit(
        &self,
        workspace: Id<Workspace>,
        before: Option<u64>,
        limit: usize,
    ) -> PortResult<Page<StoredAudit>> {
        let state = locked(&self.state);
        let of =
            state.audit.iter().rev().filter(|(home, stored)| {
                *home == workspace && before.is_none_or(|before| stored.seq < before)
            });
        page(of.map(|(_, stored)| stored.clone()), limit)
    }
}
