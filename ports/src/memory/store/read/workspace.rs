use async_trait::async_trait;

use super::{newer, older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Grant, GrantKind, Membership, User, Workspace};
use crate::store::{Page, Workspaces};
use crate::text::Slug;

#[async_trait]
impl Workspaces for MemoryStore {
    async fn workspace(&self, id: Id<Workspace>) -> PortResult<Option<Workspace>> {
        Ok(locked(&self.state).tables.workspaces.get(&id).cloned())
    }

    async fn workspace_by_name(&self, name: &Slug) -> PortResult<Option<Workspace>> {
        Ok(locked(&self.state).tables.workspaces.values().find(|row| row.name == *name).cloned())
    }

    async fn membership(&self, workspace: Id<Workspace>, user: Id<User>) -> PortResult<Option<Membership>> {
        Ok(locked(&self.state).tables.memberships.get(&(workspace, user)).cloned())
    }

    async fn members(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<User>>,
        limit: usize,
    ) -> PortResult<Page<(Membership, User)>> {
        let tables = locked(&self.state).tables.clone();
        let of =
            tables.memberships.values().filter(|row| row.workspace == workspace && newer(row.user, after));
        page(of.filter_map(|row| Some((row.clone(), tables.users.get(&row.user)?.clone()))), limit)
    }

    async fn workspaces_of(
        &self,
        user: Id<User>,
        after: Option<Id<Workspace>>,
        limit: usize,
    ) -> PortResult<Page<(Workspace, Membership)>> {
        let tables = locked(&self.state).tables.clone();
        let of =
            tables.memberships.values().rev().filter(|row| row.user == user && older(row.workspace, after));
        page(of.filter_map(|row| Some((tables.workspaces.get(&row.workspace)?.clone(), row.clone()))), limit)
    }

    async fn all_workspaces(
        &self,
        after: Option<Id<Workspace>>,
        limit: usize,
    ) -> PortResult<Page<Workspace>> {
        let tables = locked(&self.state).tables.clone();
        page(tables.workspaces.values().filter(|row| newer(row.id, after)).cloned(), limit)
    }

    async fn invites(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Grant>>,
        limit: usize,
    ) -> PortResult<Page<Grant>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |grant: &&Grant| {
            grant.kind == GrantKind::Invite
                && grant.workspace == Some(workspace)
                && grant.spent_at.is_none()
                && older(grant.id, after)
        };
        page(tables.grants.values().rev().filter(wanted).cloned(), limit)
    }
}
