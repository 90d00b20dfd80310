use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Release, Template, Workspace};
use burstflare_ports::store::{Page, Releases};

use super::{SqlStore, newest_first, params};
use crate::database::Database;
use crate::table::{RELEASE, RELEASES, RELEASES_OF_TEMPLATE};

#[async_trait]
impl<D: Database> Releases for SqlStore<D> {
    async fn release(&self, workspace: Id<Workspace>, id: Id<Release>) -> PortResult<Option<Release>> {
        self.one(RELEASE, params![workspace, id]).await
    }

    async fn releases(
        &self,
        workspace: Id<Workspace>,
        template: Option<Id<Template>>,
        after: Option<Id<Release>>,
        limit: usize,
    ) -> PortResult<Page<Release>> {
        let cursor = newest_first(after);
        match template {
            Some(template) => {
                self.page(RELEASES_OF_TEMPLATE, params![workspace, template, cursor], limit).await
            }
            None => self.page(RELEASES, params![workspace, cursor], limit).await,
        }
    }
}
