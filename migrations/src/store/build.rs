use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Build, LogChunk, Workspace};
use burstflare_ports::store::{Builds, Page};
use burstflare_ports::time::Timestamp;

use super::{SqlStore, newest_first, oldest_first, params};
use crate::database::Database;
use crate::table::{BUILD, BUILDS, LOG_CHUNKS, OVERDUE_BUILDS};

#[async_trait]
impl<D: Database> Builds for SqlStore<D> {
    async fn build(&self, workspace: Id<Workspace>, id: Id<Build>) -> PortResult<Option<Build>> {
        self.one(BUILD, params![workspace, id]).await
    }

    async fn builds(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>> {
        self.page(BUILDS, params![workspace, newest_first(after)], limit).await
    }

    async fn log_chunks(
        &self,
        workspace: Id<Workspace>,
        build: Id<Build>,
        attempt: u32,
        from: u64,
        limit: usize,
    ) -> PortResult<Page<LogChunk>> {
        self.page(LOG_CHUNKS, params![workspace, build, attempt, from], limit).await
    }

    async fn overdue_builds(
        &self,
        now: Timestamp,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>> {
        self.page(OVERDUE_BUILDS, params![oldest_first(after), now], limit).await
    }
}
