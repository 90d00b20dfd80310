use async_trait::async_trait;

use super::page;
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{PortSetting, Session, Workspace};
use crate::store::{Page, Previews};

#[async_trait]
impl Previews for MemoryStore {
    async fn session_of_host(&self, id: Id<Session>) -> PortResult<Option<Session>> {
        Ok(locked(&self.state).tables.sessions.values().find(|row| row.id == id).cloned())
    }

    async fn port_setting(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        port: u16,
    ) -> PortResult<Option<PortSetting>> {
        Ok(locked(&self.state).tables.port_settings.get(&(workspace, session, port)).cloned())
    }

    async fn port_settings(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        after: Option<u16>,
        limit: usize,
    ) -> PortResult<Page<PortSetting>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&PortSetting| {
            row.workspace == workspace && row.session == session && after.is_none_or(|after| row.port > after)
        };
        page(tables.port_settings.values().filter(wanted).cloned(), limit)
    }
}
