use async_trait::async_trait;

use super::{newer, older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Build, BuildState, LogChunk, Workspace};
use crate::store::{Builds, Page};
use crate::time::Timestamp;

#[async_trait]
impl Builds for MemoryStore {
    async fn build(&self, workspace: Id<Workspace>, id: Id<Build>) -> PortResult<Option<Build>> {
        Ok(locked(&self.state).tables.builds.get(&(workspace, id)).cloned())
    }

    async fn builds(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Build| row.workspace == workspace && older(row.id, after);
        page(tables.builds.values().rev().filter(wanted).cloned(), limit)
    }

    async fn log_chunks(
        &self,
        workspace: Id<Workspace>,
        build: Id<Build>,
        attempt: u32,
        from: u64,
        limit: usize,
    ) -> PortResult<Page<LogChunk>> {
        let tables = locked(&self.state).tables.clone();
        let chunks =
            tables.log_chunks.range((workspace, build, attempt, 0)..=(workspace, build, attempt, u64::MAX));
        let wanted = chunks.map(|(_, row)| row).filter(|row| row.offset + row.size > from);
        page(wanted.cloned(), limit)
    }

    async fn overdue_builds(
        &self,
        now: Timestamp,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>> {
        let tables = locked(&self.state).tables.clone();
        let mut overdue: Vec<_> = tables
            .builds
            .values()
            .filter(|row| matches!(row.state, BuildState::Queued | BuildState::Running))
            .filter(|row| row.deadline.is_some_and(|deadline| deadline <= now) && newer(row.id, after))
            .cloned()
            .collect();
        overdue.sort_by_key(|row| row.id);
        page(overdue.into_iter(), limit)
    }
}
