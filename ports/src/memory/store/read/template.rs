use async_trait::async_trait;

use super::{older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Template, Version, Workspace};
use crate::store::{Page, Templates};
use crate::text::{Label, Slug};

#[async_trait]
impl Templates for MemoryStore {
    async fn template(&self, workspace: Id<Workspace>, id: Id<Template>) -> PortResult<Option<Template>> {
        Ok(locked(&self.state).tables.templates.get(&(workspace, id)).cloned())
    }

    async fn template_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Template>> {
        let tables = locked(&self.state).tables.clone();
        let found = tables.templates.values().find(|row| row.workspace == workspace && row.name == *name);
        Ok(found.cloned())
    }

    async fn templates(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Template>>,
        limit: usize,
    ) -> PortResult<Page<Template>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Template| row.workspace == workspace && older(row.id, after);
        page(tables.templates.values().rev().filter(wanted).cloned(), limit)
    }

    async fn version(&self, workspace: Id<Workspace>, id: Id<Version>) -> PortResult<Option<Version>> {
        Ok(locked(&self.state).tables.versions.get(&(workspace, id)).cloned())
    }

    async fn version_by_label(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        label: &Label,
    ) -> PortResult<Option<Version>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Version| row.workspace == workspace && row.template == template && row.label == *label;
        Ok(tables.versions.values().find(wanted).cloned())
    }

    async fn versions(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        after: Option<Id<Version>>,
        limit: usize,
    ) -> PortResult<Page<Version>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Version| row.workspace == workspace && row.template == template && older(row.id, after);
        page(tables.versions.values().rev().filter(wanted).cloned(), limit)
    }
}
