//! Accounts: register, recover, refresh, log out, who am I.

use std::fmt::Display;
use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Actor, AuditEntry, Grant, GrantKind, Membership, Origin, Role, Scope, SecretHash, SignIn, Token,
    TokenKind, User, Workspace,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, Put, SingleUse, Spend, Unique};
use burstflare_ports::text::{Email, Slug};
use burstflare_ports::time::Timestamp;
use serde_json::json;

use super::{Caller, ControlPlane, Registration, refusal};
use crate::domain::token_text::{self, Type};
use crate::error::{Error, Kind, Result};

/// Life of an access token.
pub(super) const ACCESS: Duration = Duration::from_secs(3600);
/// Life of a refresh token; each use makes a new one.
const REFRESH: Duration = Duration::from_secs(30 * 86_400);
/// Recovery codes of an account.
const RECOVERY_CODES: usize = 10;
/// Recovery codes do not grow old in a person's lifetime.
const RECOVERY: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How many names are tried for a personal workspace.
const NAME_ATTEMPTS: usize = 5;

/// A wish for an account.
#[derive(Debug, Clone)]
pub struct Register {
    /// The address.
    pub email: Email,
    /// An invite or the first operator's code, where registration asks for one.
    pub code: Option<Secret<String>>,
}

/// A way back in.
#[derive(Debug, Clone)]
pub struct Recover {
    /// The address.
    pub email: Email,
    /// One of the account's recovery codes.
    pub code: Secret<String>,
}

/// Tokens of a sign-in.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// For requests.
    pub access: Secret<String>,
    /// From when on it is refused.
    pub access_expires_at: Timestamp,
    /// For new tokens, once.
    pub refresh: Secret<String>,
    /// From when on it is refused.
    pub refresh_expires_at: Timestamp,
}

/// Somebody who is signed in now.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The user.
    pub user: User,
    /// The workspace the tokens are for.
    pub workspace: Workspace,
    /// Their role in it.
    pub role: Role,
    /// Their tokens.
    pub tokens: Tokens,
}

/// A new account.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Who, where, with which tokens.
    pub signed_in: SignedIn,
    /// Ten codes to get back in, each once; shown now and never again.
    pub recovery_codes: Vec<Secret<String>>,
}

impl ControlPlane {
    /// Makes an account, its personal workspace, recovery codes and tokens, in one commit.
    ///
    /// # Errors
    /// `registration_closed`, `code_required`, `code_spent`, `email_taken`; `not_supported` with a mailer that proves
    /// addresses, whose flow is not there yet.
    pub async fn register(&self, wish: Register, origin: Origin) -> Result<Registered> {
        if self.ports().mailer.proves_addresses() {
            return Err(Error::new(
                Kind::Unsupported,
                "not_supported",
                "Registering with a mailed code is not supported yet.",
                "Run the server without a mailer.",
            ));
        }
        let grant = self.admission(wish.code.as_ref()).await?;
        let now = self.now();
        let user = User {
            id: self.new_id(now)?,
            email: wish.email,
            email_verified_at: None,
            created_at: now,
            revision: 1,
        };
        for attempt in 0..NAME_ATTEMPTS {
            let name = self.personal_name(&user.email, attempt)?;
            let workspace = Workspace {
                id: self.new_id(now)?,
                name: name.clone(),
                plan: self.config().plan.clone(),
                personal_of: Some(user.id),
                created_at: now,
                revision: 1,
            };
            let (change, registered) = self.registration(&user, workspace, grant.as_ref(), &origin, now)?;
            match self.commit(change).await {
                Ok(()) => return Ok(registered),
                Err(CommitError::Refused(Guard::Free(Unique::WorkspaceName(_)))) => {}
                Err(CommitError::Refused(Guard::Free(Unique::Email(_)))) => {
                    return Err(Error::conflict(
                        "email_taken",
                        "That address has an account already.",
                        "Sign in: `flare auth login --recovery-code CODE --email ADDRESS`.",
                    ));
                }
                Err(error) => return Err(refusal(error)),
            }
        }
        Err(Error::conflict("name_taken", "No free name for a personal workspace was found.", "Try again."))
    }

    fn registration(
        &self,
        user: &User,
        workspace: Workspace,
        grant: Option<&Grant>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<(ChangeSet, Registered)> {
        let mut change = ChangeSet::new(Family::Directory);
        change.guards = vec![
            Guard::Free(Unique::Email(user.email.clone())),
            Guard::Free(Unique::WorkspaceName(workspace.name.clone())),
        ];
        change.puts = vec![Put::User(user.clone()), Put::Workspace(workspace.clone())];
        let mut joins = vec![(workspace.id, Role::Owner)];
        if let Some(grant) = grant {
            spend(&mut change, grant, now);
            if grant.kind == GrantKind::Bootstrap {
                change.guards.push(Guard::Free(Unique::FirstUser));
            }
            joins.extend(grant.workspace.zip(grant.role));
        }
        for (workspace, role) in joins {
            change.guards.push(Guard::Absent(Key::Membership(workspace, user.id)));
            change.puts.push(Put::Membership(Membership {
                workspace,
                user: user.id,
                role,
                created_at: now,
                revision: 1,
            }));
        }
        let mut recovery_codes = Vec::with_capacity(RECOVERY_CODES);
        for _ in 0..RECOVERY_CODES {
            let (text, grant) = self.new_grant(GrantKind::Recovery, now, RECOVERY)?;
            change.puts.push(Put::Grant(Grant { user: Some(user.id), ..grant }));
            recovery_codes.push(text);
        }
        let tokens = self.sign_in(&mut change, user.id, workspace.id, now)?;
        change.audit.push((
            Some(workspace.id),
            audit_line(user.id, origin, "auth.register", user.id, now, json!({ "email": user.email })),
        ));
        let signed_in = SignedIn { user: user.clone(), workspace, role: Role::Owner, tokens };
        Ok((change, Registered { signed_in, recovery_codes }))
    }

    /// Signs in with a recovery code, which is spent.
    ///
    /// # Errors
    /// `Unauthenticated`, alike for an unknown address and a wrong code.
    pub async fn recover(&self, way: Recover, origin: Origin) -> Result<SignedIn> {
        let refuse = || {
            Error::new(
                Kind::Unauthenticated,
                "recovery_refused",
                "That address and recovery code do not belong together, or the code was used.",
                "Check both; each code works once.",
            )
        };
        let now = self.now();
        let grant = match token_text::recognise(way.code.expose()) {
            Some(Type::Recovery) => self.store().grant(&SecretHash::of(way.code.expose())).await?,
            _ => None,
        };
        let user = self.store().user_by_email(&way.email).await?;
        let (Some(grant), Some(user)) = (grant, user) else { return Err(refuse()) };
        if grant.kind != GrantKind::Recovery || grant.user != Some(user.id) {
            return Err(refuse());
        }
        let (workspace, membership) = self
            .store()
            .workspaces_of(user.id, None, burstflare_ports::store::PAGE_LIMIT)
            .await?
            .items
            .into_iter()
            .max_by_key(|(workspace, _)| workspace.personal_of == Some(user.id))
            .ok_or_else(refuse)?;
        let mut change = ChangeSet::new(Family::Directory);
        spend(&mut change, &grant, now);
        let tokens = self.sign_in(&mut change, user.id, workspace.id, now)?;
        change.audit.push((
            Some(workspace.id),
            audit_line(user.id, &origin, "auth.recover", user.id, now, json!({ "grant": grant.id })),
        ));
        match self.commit(change).await {
            Ok(()) => Ok(SignedIn { user, workspace, role: membership.role, tokens }),
            Err(CommitError::Refused(Guard::Unspent(..))) => Err(refuse()),
            Err(error) => Err(refusal(error)),
        }
    }

    /// Exchanges a refresh token for new tokens. One that was used already revokes everything that came from
    /// the same sign-in: somebody else has a copy.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub async fn refresh(&self, refresh: &Secret<String>, origin: Origin) -> Result<SignedIn> {
        let refuse = || {
            Error::new(
                Kind::Unauthenticated,
                "refresh_refused",
                "The sign-in has ended.",
                "Sign in again: `flare auth login`.",
            )
        };
        let now = self.now();
        if token_text::recognise(refresh.expose()) != Some(Type::Refresh) {
            return Err(refuse());
        }
        let grant = self.store().grant(&SecretHash::of(refresh.expose())).await?.ok_or_else(refuse)?;
        let Some(id) = grant.sign_in.filter(|_| grant.kind == GrantKind::Refresh) else {
            return Err(refuse());
        };
        let sign_in = self.store().sign_in(id).await?.ok_or_else(refuse)?;
        if sign_in.revoked_at.is_some() {
            return Err(refuse());
        }
        let (user, workspace, membership) = (
            self.store().user(sign_in.user).await?.ok_or_else(refuse)?,
            self.store().workspace(sign_in.workspace).await?.ok_or_else(refuse)?,
            self.store().membership(sign_in.workspace, sign_in.user).await?.ok_or_else(refuse)?,
        );
        let mut change = ChangeSet::new(Family::Directory);
        change.guards.push(Guard::Revision(Key::SignIn(sign_in.id), sign_in.revision));
        spend(&mut change, &grant, now);
        let tokens = self.issue(&mut change, &sign_in, now)?;
        match self.commit(change).await {
            Ok(()) => Ok(SignedIn { user, workspace, role: membership.role, tokens }),
            Err(CommitError::Refused(Guard::Unspent(..))) if grant.expires_at > now => {
                self.revoke(id, &origin, "auth.refresh_reused").await?;
                Err(refuse())
            }
            Err(CommitError::Refused(_)) => Err(refuse()),
            Err(error) => Err(refusal(error)),
        }
    }

    /// Ends the caller's sign-in: all its tokens are refused from now on.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn logout(&self, caller: &Caller) -> Result<()> {
        self.revoke(caller.sign_in, &caller.origin, "auth.logout").await
    }

    async fn revoke(&self, id: Id<SignIn>, origin: &Origin, action: &str) -> Result<()> {
        let (origin, action) = (origin, action);
        self.commit_decided(|| async move {
            let Some(sign_in) = self.store().sign_in(id).await?.filter(|found| found.revoked_at.is_none())
            else {
                return Ok((None, ()));
            };
            let now = self.now();
            let mut change = ChangeSet::new(Family::Directory);
            change.guards.push(Guard::Revision(Key::SignIn(id), sign_in.revision));
            change.audit.push((
                Some(sign_in.workspace),
                audit_line(sign_in.user, origin, action, id, now, json!({})),
            ));
            change.puts.push(Put::SignIn(SignIn {
                revoked_at: Some(now),
                revision: sign_in.revision + 1,
                ..sign_in
            }));
            Ok((Some(change), ()))
        })
        .await
    }

    /// The grant behind a code, as far as registration asks for one.
    async fn admission(&self, code: Option<&Secret<String>>) -> Result<Option<Grant>> {
        let registration = self.config().registration;
        let Some(code) = code else {
            return match registration {
                Registration::Open => Ok(None),
                Registration::Invite => Err(Error::new(
                    Kind::Forbidden,
                    "code_required",
                    "Accounts on this server are by invitation.",
                    "Ask for an invite and add `--code CODE`; the first operator uses the code that the server printed.",
                )),
                Registration::Closed => Err(closed()),
            };
        };
        if registration == Registration::Closed {
            return Err(closed());
        }
        let wrong = || {
            Error::new(
                Kind::Unauthenticated,
                "code_spent",
                "That code is not valid, was used already, or has expired.",
                "Ask for a new one.",
            )
        };
        if !matches!(token_text::recognise(code.expose()), Some(Type::Invite | Type::Bootstrap)) {
            return Err(wrong());
        }
        let grant = self.store().grant(&SecretHash::of(code.expose())).await?.ok_or_else(wrong)?;
        if !matches!(grant.kind, GrantKind::Invite | GrantKind::Bootstrap) {
            return Err(wrong());
        }
        Ok(Some(grant))
    }

    fn personal_name(&self, email: &Email, attempt: usize) -> Result<Slug> {
        let local = email.as_str().split('@').next().unwrap_or_default();
        let mut base: String = local
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(40)
            .collect();
        base = base.trim_matches('-').to_owned();
        if base.is_empty() {
            "workspace".clone_into(&mut base);
        }
        if attempt > 0 {
            let [a, b, c, d] = self.random::<4>()?;
            base = format!("{base}-{a:02x}{b:02x}{c:02x}{d:02x}");
        }
        base.parse().map_err(|error| super::fault("personal name", error))
    }

    /// Adds a new sign-in and its first tokens to a change.
    pub(super) fn sign_in(
        &self,
        change: &mut ChangeSet,
        user: Id<User>,
        workspace: Id<Workspace>,
        now: Timestamp,
    ) -> Result<Tokens> {
        let sign_in =
            SignIn { id: self.new_id(now)?, user, workspace, created_at: now, revoked_at: None, revision: 1 };
        change.guards.push(Guard::Absent(Key::SignIn(sign_in.id)));
        change.puts.push(Put::SignIn(sign_in.clone()));
        self.issue(change, &sign_in, now)
    }

    fn issue(&self, change: &mut ChangeSet, sign_in: &SignIn, now: Timestamp) -> Result<Tokens> {
        let access = token_text::compose(Type::Access, &self.random()?);
        let token = Token {
            id: self.new_id(now)?,
            kind: TokenKind::Access,
            hash: token_text::hash(&access),
            sign_in: sign_in.id,
            user: sign_in.user,
            workspace: sign_in.workspace,
            name: None,
            scopes: vec![Scope::Read, Scope::Write, Scope::Attach],
            created_at: now,
            expires_at: now.after(ACCESS),
            revoked_at: None,
            revision: 1,
        };
        let (refresh, grant) = self.new_grant(GrantKind::Refresh, now, REFRESH)?;
        let tokens = Tokens {
            access,
            access_expires_at: token.expires_at,
            refresh,
            refresh_expires_at: grant.expires_at,
        };
        change.guards.push(Guard::Absent(Key::Token(token.id)));
        change.puts.push(Put::Token(token));
        change.puts.push(Put::Grant(Grant { user: Some(sign_in.user), sign_in: Some(sign_in.id), ..grant }));
        Ok(tokens)
    }

    pub(super) fn new_grant(
        &self,
        kind: GrantKind,
        now: Timestamp,
        life: Duration,
    ) -> Result<(Secret<String>, Grant)> {
        let text_type = match kind {
            GrantKind::Refresh => Type::Refresh,
            GrantKind::Recovery => Type::Recovery,
            GrantKind::Invite => Type::Invite,
            GrantKind::Bootstrap => Type::Bootstrap,
        };
        let text = token_text::compose(text_type, &self.random()?);
        let grant = Grant {
            id: self.new_id(now)?,
            kind,
            hash: token_text::hash(&text),
            user: None,
            sign_in: None,
            workspace: None,
            role: None,
            created_at: now,
            expires_at: now.after(life),
            spent_at: None,
        };
        Ok((text, grant))
    }
}

fn closed() -> Error {
    Error::new(
        Kind::Forbidden,
        "registration_closed",
        "This server takes no new accounts.",
        "Ask its operator.",
    )
}

pub(super) fn spend(change: &mut ChangeSet, grant: &Grant, now: Timestamp) {
    let what = SingleUse::Grant(grant.id);
    change.guards.push(Guard::Unspent(what, now));
    change.spends.push(Spend { what, at: now });
}

pub(super) fn audit_line(
    user: Id<User>,
    origin: &Origin,
    action: &str,
    target: impl Display + Copy,
    at: Timestamp,
    detail: serde_json::Value,
) -> AuditEntry {
    AuditEntry {
        at,
        actor: Actor::User { user, token: None },
        origin: origin.clone(),
        action: action.to_owned(),
        target: target.to_string(),
        detail,
    }
}
