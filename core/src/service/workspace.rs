//! Workspaces and their members.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::record::{Grant, GrantKind, Membership, Role, User, Workspace};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, Family, Put};
use serde_json::json;

use super::{Caller, ControlPlane, List, PageQuery, SignedIn, refusal};
use crate::domain::permission::{Action, Relation};
use crate::error::{Error, Kind, Result};

/// Life of an invite.
const INVITE: Duration = Duration::from_secs(7 * 86_400);

impl ControlPlane {
    /// The workspaces the caller belongs to, with their role in each.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn workspaces(
        &self,
        caller: &Caller,
        page: PageQuery<Id<Workspace>>,
    ) -> Result<List<(Workspace, Membership), Id<Workspace>>> {
        let found = self.store().workspaces_of(caller.user.id, page.after, page.limit).await?;
        Ok(super::paging::list(found, |(workspace, _)| workspace.id))
    }

    /// Tokens of a new sign-in for another workspace of the caller's.
    ///
    /// # Errors
    /// `NotFound` where the caller does not belong to it.
    pub async fn use_workspace(&self, caller: &Caller, reference: &str) -> Result<SignedIn> {
        caller.may(Action::TokenManage, Relation::Own)?;
        let workspace = match reference.parse::<Id<Workspace>>() {
            Ok(id) => self.store().workspace(id).await?,
            Err(_) => match reference.parse() {
                Ok(name) => self.store().workspace_by_name(&name).await?,
                Err(_) => None,
            },
        };
        let workspace = workspace.ok_or_else(|| Error::not_found("workspace"))?;
        let membership = self.store().membership(workspace.id, caller.user.id).await?;
        let membership = membership.ok_or_else(|| Error::not_found("workspace"))?;
        let now = self.now();
        let mut change = ChangeSet::new(Family::Directory);
        let tokens = self.sign_in(&mut change, caller.user.id, workspace.id, now)?;
        change.audit.push(caller.audit(self, "auth.use_workspace", workspace.id, json!({})));
        self.commit(change).await.map_err(refusal)?;
        Ok(SignedIn { user: caller.user.clone(), workspace, role: membership.role, tokens })
    }

    /// The members of the caller's workspace.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn members(
        &self,
        caller: &Caller,
        page: PageQuery<Id<User>>,
    ) -> Result<List<(Membership, User), Id<User>>> {
        caller.may(Action::Read, Relation::Own)?;
        let found = self.store().members(caller.workspace.id, page.after, page.limit).await?;
        Ok(super::paging::list(found, |(_, user)| user.id))
    }

    /// A single-use code that makes whoever registers with it a member of the caller's workspace, too.
    ///
    /// # Errors
    /// `Forbidden` for a role above the caller's own.
    pub async fn invite(&self, caller: &Caller, role: Role) -> Result<(Secret<String>, Grant)> {
        caller.may(Action::MemberManage, Relation::Own)?;
        if role > caller.role {
            return Err(Error::new(
                Kind::Forbidden,
                "forbidden",
                "You cannot invite somebody into a role above your own.",
                "Choose your own role or a lower one.",
            ));
        }
        let (text, grant) = self.new_grant(GrantKind::Invite, self.now(), INVITE)?;
        let grant = Grant {
            user: Some(caller.user.id),
            workspace: Some(caller.workspace.id),
            role: Some(role),
            ..grant
        };
        let mut change = ChangeSet::new(Family::Directory);
        change.puts.push(Put::Grant(grant.clone()));
        change.audit.push(caller.audit(self, "invite.create", grant.id, json!({ "role": role })));
        self.commit(change).await.map_err(refusal)?;
        Ok((text, grant))
    }

    /// The unspent invites of the caller's workspace. Their codes are not known any more.
    ///
    /// # Errors
    /// `Forbidden` below admin.
    pub async fn invites(
        &self,
        caller: &Caller,
        page: PageQuery<Id<Grant>>,
    ) -> Result<List<Grant, Id<Grant>>> {
        caller.may(Action::MemberManage, Relation::Own)?;
        let found = self.store().invites(caller.workspace.id, page.after, page.limit).await?;
        Ok(super::paging::list(found, |grant| grant.id))
    }
}
