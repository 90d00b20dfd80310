use async_trait::async_trait;

use super::{older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{Grant, Principal, SecretHash, SignIn, Token, TokenKind, User, Workspace};
use crate::store::{Accounts, Page};
use crate::text::Email;

#[async_trait]
impl Accounts for MemoryStore {
    async fn principal(&self, hash: &SecretHash) -> PortResult<Option<Principal>> {
        let tables = locked(&self.state).tables.clone();
        let find = || {
            let token = tables.tokens.values().find(|token| token.hash == *hash)?.clone();
            Some(Principal {
                sign_in: tables.sign_ins.get(&token.sign_in)?.clone(),
                user: tables.users.get(&token.user)?.clone(),
                workspace: tables.workspaces.get(&token.workspace)?.clone(),
                membership: tables.memberships.get(&(token.workspace, token.user)).cloned(),
                token,
            })
        };
        Ok(find())
    }

    async fn user(&self, id: Id<User>) -> PortResult<Option<User>> {
        Ok(locked(&self.state).tables.users.get(&id).cloned())
    }

    async fn user_by_email(&self, email: &Email) -> PortResult<Option<User>> {
        Ok(locked(&self.state).tables.users.values().find(|user| user.email == *email).cloned())
    }

    async fn grant(&self, hash: &SecretHash) -> PortResult<Option<Grant>> {
        Ok(locked(&self.state).tables.grants.values().find(|grant| grant.hash == *hash).cloned())
    }

    async fn sign_in(&self, id: Id<SignIn>) -> PortResult<Option<SignIn>> {
        Ok(locked(&self.state).tables.sign_ins.get(&id).cloned())
    }

    async fn token(&self, user: Id<User>, id: Id<Token>) -> PortResult<Option<Token>> {
        Ok(locked(&self.state).tables.tokens.get(&id).filter(|token| token.user == user).cloned())
    }

    async fn tokens(
        &self,
        user: Id<User>,
        workspace: Id<Workspace>,
        after: Option<Id<Token>>,
        limit: usize,
    ) -> PortResult<Page<Token>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |token: &&Token| {
            token.user == user
                && token.workspace == workspace
                && token.kind == TokenKind::Personal
                && token.revoked_at.is_none()
                && older(token.id, after)
        };
        page(tables.tokens.values().rev().filter(wanted).cloned(), limit)
    }

    async fn any_user(&self) -> PortResult<bool> {
        Ok(!locked(&self.state).tables.users.is_empty())
    }
}
