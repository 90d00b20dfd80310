use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Grant, Membership, User, Workspace};
use burstflare_ports::store::{Page, Workspaces};
use burstflare_ports::text::Slug;

use super::{SqlStore, newest_first, oldest_first, params};
use crate::database::Database;
use crate::table::{
    ALL_WORKSPACES, INVITES, MEMBERS, MEMBERSHIP, Stored, WORKSPACE, WORKSPACE_BY_NAME, WORKSPACES_OF,
};

#[async_trait]
impl<D: Database> Workspaces for SqlStore<D> {
    async fn workspace(&self, id: Id<Workspace>) -> PortResult<Option<Workspace>> {
        self.one(WORKSPACE, params![id]).await
    }

    async fn workspace_by_name(&self, name: &Slug) -> PortResult<Option<Workspace>> {
        self.one(WORKSPACE_BY_NAME, params![name]).await
    }

    async fn membership(&self, workspace: Id<Workspace>, user: Id<User>) -> PortResult<Option<Membership>> {
        self.one(MEMBERSHIP, params![workspace, user]).await
    }

    async fn members(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<User>>,
        limit: usize,
    ) -> PortResult<Page<(Membership, User)>> {
        let params = params![workspace, oldest_first(after)];
        self.page_by(MEMBERS, params, limit, |row| Ok((Membership::read(row)?, User::read(row)?))).await
    }

    async fn workspaces_of(
        &self,
        user: Id<User>,
        after: Option<Id<Workspace>>,
        limit: usize,
    ) -> PortResult<Page<(Workspace, Membership)>> {
        let params = params![user, newest_first(after)];
        self.page_by(WORKSPACES_OF, params, limit, |row| Ok((Workspace::read(row)?, Membership::read(row)?)))
            .await
    }

    async fn all_workspaces(
        &self,
        after: Option<Id<Workspace>>,
        limit: usize,
    ) -> PortResult<Page<Workspace>> {
        self.page(ALL_WORKSPACES, params![oldest_first(after)], limit).await
    }

    async fn invites(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Grant>>,
        limit: usize,
    ) -> PortResult<Page<Grant>> {
        self.page(INVITES, params![workspace, newest_first(after)], limit).await
    }
}
