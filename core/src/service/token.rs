//! Personal tokens.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::record::{Scope, Token, TokenKind};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, Family, Guard, Key, Put};
use burstflare_ports::text::DisplayName;
use serde_json::json;

use super::paging::list;
use super::{Caller, ControlPlane, List, PageQuery, refusal};
use crate::domain::permission::{Action, Relation};
use crate::domain::token_text::{self, Type};
use crate::error::{Error, Result};

/// The longest life of a personal token.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A wish for a personal token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is called.
    pub name: DisplayName,
    /// What it may be used for; at least one, and none the caller's own token lacks.
    pub scopes: Vec<Scope>,
    /// Its life, up to 366 days.
    pub life: Duration,
}

impl ControlPlane {
    /// Makes a personal token for the caller's workspace. The text is shown now and never again.
    ///
    /// # Errors
    /// When scopes or life are out of bounds, or the caller's own token has fewer scopes.
    pub async fn create_token(&self, caller: &Caller, wish: NewToken) -> Result<(Secret<String>, Token)> {
        caller.may(Action::TokenManage, Relation::Own)?;
        let mut scopes = wish.scopes;
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() || scopes.iter().any(|scope| !caller.scopes.contains(scope)) {
            return Err(Error::invalid(
                "scopes",
                "choose at least one scope, and only such as you have yourself",
            ));
        }
        if wish.life.is_zero() || wish.life > LONGEST {
            return Err(Error::invalid("expires_in_days", "a token lives 1 to 366 days"));
        }
        let now = self.now();
        let text = token_text::compose(Type::Personal, &self.random()?);
        let token = Token {
            id: self.new_id(now)?,
            kind: TokenKind::Personal,
            hash: token_text::hash(&text),
            sign_in: self.new_id(now)?,
            user: caller.user.id,
            workspace: caller.workspace.id,
            name: Some(wish.name),
            scopes,
            created_at: now,
            expires_at: now.after(wish.life),
            revoked_at: None,
            revision: 1,
        };
        let mut change = ChangeSet::new(Family::Directory);
        // A personal token is a sign-in of its own: logging out elsewhere does not end it.
        change.guards = vec![Guard::Absent(Key::SignIn(token.sign_in)), Guard::Absent(Key::Token(token.id))];
        change.puts = vec![
            Put::SignIn(burstflare_ports::record::SignIn {
                id: token.sign_in,
                user: token.user,
                workspace: token.workspace,
                created_at: now,
                revoked_at: None,
                revision: 1,
            }),
            Put::Token(token.clone()),
        ];
        change.audit.push(caller.audit(
            self,
            "token.create",
            token.id,
            json!({ "scopes": token.scopes, "expires_at": token.expires_at }),
        ));
        self.commit(change).await.map_err(refusal)?;
        Ok((text, token))
    }

    /// The caller's personal tokens for this workspace.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn tokens(
        &self,
        caller: &Caller,
        page: PageQuery<Id<Token>>,
    ) -> Result<List<Token, Id<Token>>> {
        caller.may(Action::Read, Relation::Own)?;
        let found = self.store().tokens(caller.user.id, caller.workspace.id, page.after, page.limit).await?;
        Ok(list(found, |token| token.id))
    }

    /// Revokes one of the caller's tokens, at once.
    ///
    /// # Errors
    /// `NotFound` for everything that is not theirs.
    pub async fn revoke_token(&self, caller: &Caller, id: Id<Token>) -> Result<()> {
        caller.may(Action::TokenManage, Relation::Own)?;
        self.commit_decided(|| async move {
            let token = self.store().token(caller.user.id, id).await?;
            let token = token
                .filter(|found| found.workspace == caller.workspace.id)
                .ok_or_else(|| Error::not_found("token"))?;
            if token.revoked_at.is_some() {
                return Ok((None, ()));
            }
            let mut change = ChangeSet::new(Family::Directory);
            change.guards.push(Guard::Revision(Key::Token(id), token.revision));
            change.audit.push(caller.audit(self, "token.revoke", id, json!({})));
            change.puts.push(Put::Token(Token {
                revoked_at: Some(self.now()),
                revision: token.revision + 1,
                ..token
            }));
            Ok((Some(change), ()))
        })
        .await
    }
}
