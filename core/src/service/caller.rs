//! Who calls, and what they may do.

use std::fmt::Display;

use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Actor, AuditEntry, Origin, Role, Scope, SecretHash, Session, Sharing, SignIn, Token, User, Workspace,
};
use serde_json::Value;

use super::ControlPlane;
use crate::domain::permission::{self, Action, Relation};
use crate::domain::plan::{self, Plan};
use crate::domain::token_text::{self, Type};
use crate::error::{Error, Kind, Result};

/// A signed-in caller: a user in one workspace, with one token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user.
    pub user: User,
    /// The workspace the token is for.
    pub workspace: Workspace,
    /// Their role in it.
    pub role: Role,
    /// The token.
    pub token: Id<Token>,
    /// The sign-in it came from.
    pub sign_in: Id<SignIn>,
    /// What the token may be used for.
    pub scopes: Vec<Scope>,
    /// Where the request came from.
    pub origin: Origin,
}

impl Caller {
    /// The limits of the workspace's plan.
    #[must_use]
    pub fn plan(&self) -> Plan {
        plan::by_name(&self.workspace.plan)
    }

    /// Refuses unless role and token allow it to something in this relation.
    ///
    /// # Errors
    /// `Forbidden`, naming what is missing.
    pub fn may(&self, action: Action, relation: Relation) -> Result<()> {
        if !permission::allows(self.role, action, relation) {
            return Err(Error::new(
                Kind::Forbidden,
                "forbidden",
                "Your role in this workspace does not allow that.",
                "Ask an admin of the workspace.",
            ));
        }
        if !self.scopes.contains(&action.scope()) {
            return Err(Error::new(
                Kind::Forbidden,
                "scope_missing",
                format!("This token lacks the scope `{:?}`.", action.scope()).to_lowercase(),
                "Use a token with that scope: `flare token create`.",
            ));
        }
        Ok(())
    }

    /// [`Caller::may`] for a session.
    ///
    /// # Errors
    /// As there.
    pub fn may_session(&self, action: Action, session: &Session) -> Result<()> {
        self.may(action, relation_to(session, self.user.id))
    }

    /// A line for the audit log.
    pub(super) fn audit(
        &self,
        plane: &ControlPlane,
        action: &str,
        target: impl Display + Copy,
        detail: Value,
    ) -> (Option<Id<Workspace>>, AuditEntry) {
        let entry = AuditEntry {
            at: plane.now(),
            actor: Actor::User { user: self.user.id, token: Some(self.token) },
            origin: self.origin.clone(),
            action: action.to_owned(),
            target: target.to_string(),
            detail,
        };
        (Some(self.workspace.id), entry)
    }
}

/// How a user stands to a session.
pub(super) fn relation_to(session: &Session, user: Id<User>) -> Relation {
    if session.owner == user {
        Relation::Own
    } else if session.sharing == Sharing::Workspace {
        Relation::Shared
    } else {
        Relation::Foreign
    }
}

/// The answer to everything that is no valid token; it does not say why.
fn unauthenticated() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "unauthenticated",
        "The token is missing, expired or revoked.",
        "Sign in: `flare auth register` or `flare auth login`.",
    )
}

impl ControlPlane {
    /// Who carries this access or personal token. One read.
    ///
    /// # Errors
    /// `Unauthenticated` for everything that is no valid token of those types.
    pub async fn authenticate(&self, bearer: &str, origin: Origin) -> Result<Caller> {
        if !matches!(token_text::recognise(bearer), Some(Type::Access | Type::Personal)) {
            return Err(unauthenticated());
        }
        let hash = SecretHash::of(bearer);
        let principal = self.store().principal(&hash).await?.ok_or_else(unauthenticated)?;
        let token = principal.token;
        let valid = token.revoked_at.is_none()
            && principal.sign_in.revoked_at.is_none()
            && token.expires_at > self.now();
        let Some(membership) = principal.membership.filter(|_| valid) else {
            return Err(unauthenticated());
        };
        Ok(Caller {
            user: principal.user,
            workspace: principal.workspace,
            role: membership.role,
            token: token.id,
            sign_in: token.sign_in,
            scopes: token.scopes,
            origin,
        })
    }
}
