use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Template, Version, Workspace};
use burstflare_ports::store::{Page, Templates};
use burstflare_ports::text::{Label, Slug};

use super::{SqlStore, newest_first, params};
use crate::database::Database;
use crate::table::{TEMPLATE, TEMPLATE_BY_NAME, TEMPLATES, VERSION, VERSION_BY_LABEL, VERSIONS};

#[async_trait]
impl<D: Database> Templates for SqlStore<D> {
    async fn template(&self, workspace: Id<Workspace>, id: Id<Template>) -> PortResult<Option<Template>> {
        self.one(TEMPLATE, params![workspace, id]).await
    }

    async fn template_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Template>> {
        self.one(TEMPLATE_BY_NAME, params![workspace, name]).await
    }

    async fn templates(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Template>>,
        limit: usize,
    ) -> PortResult<Page<Template>> {
        self.page(TEMPLATES, params![workspace, newest_first(after)], limit).await
    }

    async fn version(&self, workspace: Id<Workspace>, id: Id<Version>) -> PortResult<Option<Version>> {
        self.one(VERSION, params![workspace, id]).await
    }

    async fn version_by_label(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        label: &Label,
    ) -> PortResult<Option<Version>> {
        self.one(VERSION_BY_LABEL, params![workspace, template, label]).await
    }

    async fn versions(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        after: Option<Id<Version>>,
        limit: usize,
    ) -> PortResult<Page<Version>> {
        self.page(VERSIONS, params![workspace, template, newest_first(after)], limit).await
    }
}
