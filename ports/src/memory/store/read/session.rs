use async_trait::async_trait;

use super::{newer, older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Goal, SecretHash, Session, SessionState, Ticket, Workspace};
use crate::store::{Page, Sessions};
use crate::text::Slug;

#[async_trait]
impl Sessions for MemoryStore {
    async fn session(&self, workspace: Id<Workspace>, id: Id<Session>) -> PortResult<Option<Session>> {
        Ok(locked(&self.state).tables.sessions.get(&(workspace, id)).cloned())
    }

    async fn session_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Session>> {
        let tables = locked(&self.state).tables.clone();
        let found = tables.sessions.values().find(|row| row.workspace == workspace && row.name == *name);
        Ok(found.cloned())
    }

    async fn sessions(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Session>>,
        limit: usize,
    ) -> PortResult<Page<Session>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Session| row.workspace == workspace && older(row.id, after);
        page(tables.sessions.values().rev().filter(wanted).cloned(), limit)
    }

    async fn restless_sessions(&self, after: Option<Id<Session>>, limit: usize) -> PortResult<Page<Session>> {
        let tables = locked(&self.state).tables.clone();
        let rests = |row: &Session| {
            let still =
                matches!(row.state, SessionState::Created | SessionState::Sleeping | SessionState::Failed);
            still && row.goal == Goal::Sleep
        };
        let mut restless: Vec<_> =
            tables.sessions.values().filter(|row| !rests(row) && newer(row.id, after)).cloned().collect();
        restless.sort_by_key(|row| row.id);
        page(restless.into_iter(), limit)
    }

    async fn ticket(&self, hash: &SecretHash) -> PortResult<Option<Ticket>> {
        Ok(locked(&self.state).tables.tickets.values().find(|row| row.hash == *hash).cloned())
    }
}
