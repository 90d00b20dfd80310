use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{SecretHash, Session, Ticket, Workspace};
use burstflare_ports::store::{Page, Sessions};
use burstflare_ports::text::Slug;

use super::{SqlStore, newest_first, oldest_first, params};
use crate::database::Database;
use crate::table::{RESTLESS_SESSIONS, SESSION, SESSION_BY_NAME, SESSIONS, TICKET};

#[async_trait]
impl<D: Database> Sessions for SqlStore<D> {
    async fn session(&self, workspace: Id<Workspace>, id: Id<Session>) -> PortResult<Option<Session>> {
        self.one(SESSION, params![workspace, id]).await
    }

    async fn session_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Session>> {
        self.one(SESSION_BY_NAME, params![workspace, name]).await
    }

    async fn sessions(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Session>>,
        limit: usize,
    ) -> PortResult<Page<Session>> {
        self.page(SESSIONS, params![workspace, newest_first(after)], limit).await
    }

    async fn restless_sessions(&self, after: Option<Id<Session>>, limit: usize) -> PortResult<Page<Session>> {
        self.page(RESTLESS_SESSIONS, params![oldest_first(after)], limit).await
    }

    async fn ticket(&self, hash: &SecretHash) -> PortResult<Option<Ticket>> {
        self.one(TICKET, params![*hash]).await
    }
}
