use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Grant, Membership, Principal, SecretHash, SignIn, Token, User, Workspace};
use burstflare_ports::store::{Accounts, Page};
use burstflare_ports::text::Email;

use super::{SqlStore, newest_first, params};
use crate::column::Reader;
use crate::database::Database;
use crate::table::{ANY_USER, GRANT, PRINCIPAL, SIGN_IN, Stored, TOKEN, TOKENS, USER, USER_BY_EMAIL};

#[async_trait]
impl<D: Database> Accounts for SqlStore<D> {
    async fn principal(&self, hash: &SecretHash) -> PortResult<Option<Principal>> {
        let Some(row) = self.rows(PRINCIPAL, params![*hash]).await?.into_iter().next() else {
            return Ok(None);
        };
        let mut row = Reader::new(row);
        Ok(Some(Principal {
            token: Token::read(&mut row)?,
            sign_in: SignIn::read(&mut row)?,
            user: User::read(&mut row)?,
            workspace: Workspace::read(&mut row)?,
            membership: if row.at_null() { None } else { Some(Membership::read(&mut row)?) },
        }))
    }

    async fn user(&self, id: Id<User>) -> PortResult<Option<User>> {
        self.one(USER, params![id]).await
    }

    async fn user_by_email(&self, email: &Email) -> PortResult<Option<User>> {
        self.one(USER_BY_EMAIL, params![email]).await
    }

    async fn grant(&self, hash: &SecretHash) -> PortResult<Option<Grant>> {
        self.one(GRANT, params![*hash]).await
    }

    async fn sign_in(&self, id: Id<SignIn>) -> PortResult<Option<SignIn>> {
        self.one(SIGN_IN, params![id]).await
    }

    async fn token(&self, user: Id<User>, id: Id<Token>) -> PortResult<Option<Token>> {
        self.one(TOKEN, params![id, user]).await
    }

    async fn tokens(
        &self,
        user: Id<User>,
        workspace: Id<Workspace>,
        after: Option<Id<Token>>,
        limit: usize,
    ) -> PortResult<Page<Token>> {
        self.page(TOKENS, params![user, workspace, newest_first(after)], limit).await
    }

    async fn any_user(&self) -> PortResult<bool> {
        self.any(ANY_USER, Vec::new()).await
    }
}
