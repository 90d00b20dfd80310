use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{PortSetting, Session, Workspace};
use burstflare_ports::store::{Page, Previews};

use super::{SqlStore, params};
use crate::database::Database;
use crate::table::{PORT_SETTING, PORT_SETTINGS, SESSION_OF_HOST};

#[async_trait]
impl<D: Database> Previews for SqlStore<D> {
    async fn session_of_host(&self, id: Id<Session>) -> PortResult<Option<Session>> {
        self.one(SESSION_OF_HOST, params![id]).await
    }

    async fn port_setting(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        port: u16,
    ) -> PortResult<Option<PortSetting>> {
        self.one(PORT_SETTING, params![workspace, session, port]).await
    }

    async fn port_settings(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        after: Option<u16>,
        limit: usize,
    ) -> PortResult<Page<PortSetting>> {
        self.page(PORT_SETTINGS, params![workspace, session, after.unwrap_or(0)], limit).await
    }
}
