use async_trait::async_trait;

use super::{older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Release, Template, Workspace};
use crate::store::{Page, Releases};

#[async_trait]
impl Releases for MemoryStore {
    async fn release(&self, workspace: Id<Workspace>, id: Id<Release>) -> PortResult<Option<Release>> {
        Ok(locked(&self.state).tables.releases.get(&(workspace, id)).cloned())
    }

    async fn releases(
        &self,
        workspace: Id<Workspace>,
        template: Option<Id<Template>>,
        after: Option<Id<Release>>,
        limit: usize,
    ) -> PortResult<Page<Release>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Release| {
            row.workspace == workspace
                && template.is_none_or(|template| row.template == template)
                && older(row.id, after)
        };
        page(tables.releases.values().rev().filter(wanted).cloned(), limit)
    }
}
