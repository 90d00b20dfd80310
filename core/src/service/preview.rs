//! Previews: who may look at a port, by token, by the cookie that a ticket is exchanged for, or because it is public.
//!
//! Nothing here starts a machine. A visitor who may not come learns the same whether there is such a session or not.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{
    Origin, Session, SessionState, SignIn, TicketPurpose, Token, TokenKind, User, Version, Visibility,
    Workspace,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::attach::{Attachment, TicketFor, refused};
use super::caller::relation_to;
use super::{Caller, ControlPlane};
use crate::domain::permission::{self, Action, Relation};
use crate::domain::preview as rules;
use crate::error::{Error, Result};

/// Life of a preview's cookie; then the browser enters again.
pub const COOKIE_LIFE: Duration = Duration::from_secs(12 * 3600);

/// What a preview's host name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PreviewPlace {
    /// The session.
    pub session: Id<Session>,
    /// The port.
    pub port: u16,
}

/// What a visitor has to show.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// An access or personal token.
    Bearer(Secret<String>),
    /// Values of the preview's cookie: a sibling can add false ones, so each is tried.
    Cookies(Vec<Secret<String>>),
}

/// Why a visitor may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Everybody may.
    Public,
    /// The token says so.
    Bearer,
    /// The cookie says so: a browser sends it along, whoever asks it to.
    Cookie,
}

/// What becomes of a visit.
#[derive(Debug, Clone)]
pub enum Visit {
    /// The visitor may come.
    Welcome {
        /// Why.
        ground: Ground,
        /// The session.
        session: Box<Session>,
        /// Whom to call; `None` where the session does not run.
        target: Option<AgentTarget>,
    },
    /// The visitor is unknown, or there is nothing there.
    Stranger,
}

/// The plain text of a preview's cookie, sealed for its session and port.
#[derive(Serialize, Deserialize)]
struct Pass {
    user: Id<User>,
    sign_in: Id<SignIn>,
    /// A personal token, whose end is the cookie's.
    token: Option<Id<Token>>,
    expires_at: Timestamp,
}

/// Between the workspace and the sealed text of a cookie.
const SEPARATOR: char = '~';

impl ControlPlane {
    /// Decides about one request to a preview, anew each time: who was removed, signed out, or lost the right is a
    /// stranger from the next request on.
    ///
    /// # Errors
    /// With a token: `Unauthenticated`, `NotFound`, `Forbidden`. Otherwise only when the store cannot answer.
    pub async fn visit(&self, place: PreviewPlace, credential: &Credential, origin: Origin) -> Result<Visit> {
        if let Credential::Bearer(token) = credential {
            let caller = self.authenticate(token.expose(), origin).await?;
            return self.visit_as(&caller, place).await;
        }
        let Some(session) = self.store().session_of_host(place.session).await? else {
            return Ok(Visit::Stranger);
        };
        if let Credential::Cookies(values) = credential {
            for value in values {
                if self.cookie_admits(&session, place.port, value).await? {
                    return self.welcome(Ground::Cookie, session);
                }
            }
        }
        if session.state != SessionState::Deleting
            && self.visibility(&session, place.port).await? == Visibility::Public
        {
            return self.welcome(Ground::Public, session);
        }
        Ok(Visit::Stranger)
    }

    /// Whom to call for a preview that runs, whoever asks: for questions that carry nobody's credentials.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn preview_target(&self, place: PreviewPlace) -> Result<Option<AgentTarget>> {
        let session = self.store().session_of_host(place.session).await?;
        let running = session.filter(|session| session.state == SessionState::Running);
        running.map(|session| self.target(&session)).transpose()
    }

    async fn visit_as(&self, caller: &Caller, place: PreviewPlace) -> Result<Visit> {
        let session = self.store().session(caller.workspace.id, place.session).await?;
        let session = session
            .filter(|session| session.state != SessionState::Deleting)
            .ok_or_else(|| Error::not_found("session"))?;
        self.may_visit(caller, &session, place.port).await?;
        self.welcome(Ground::Bearer, session)
    }

    fn welcome(&self, ground: Ground, session: Session) -> Result<Visit> {
        let target = match session.state {
            SessionState::Running => Some(self.target(&session)?),
            _ => None,
        };
        Ok(Visit::Welcome { ground, session: Box::new(session), target })
    }

    /// Whether role and token allow the caller to look at a port.
    async fn may_visit(&self, caller: &Caller, session: &Session, port: u16) -> Result<()> {
        let entering = caller.may_session(Action::SessionAttach, session);
        let Err(refusal) = entering else { return Ok(()) };
        if self.visibility(session, port).await? == Visibility::Private {
            return Err(refusal);
        }
        caller.may(Action::Read, Relation::Own)
    }

    /// Who may look at a port now.
    pub(super) async fn visibility(&self, session: &Session, port: u16) -> Result<Visibility> {
        let setting = self.store().port_setting(session.workspace, session.id, port).await?;
        let now = self.now();
        if let Some(said) = &setting
            && said.expires_at.is_none_or(|expires_at| expires_at > now)
        {
            return Ok(said.visibility);
        }
        let version = self.store().version(session.workspace, session.version).await?;
        let declared =
            version.and_then(|version: Version| version.spec).map(|spec| spec.ports).unwrap_or_default();
        Ok(rules::visibility(&declared, setting.as_ref(), port, now))
    }

    /// A ticket to a port: with a browser, or for one connection.
    ///
    /// # Errors
    /// `not_running`, `Forbidden`.
    pub(super) async fn attach_port(
        &self,
        caller: &Caller,
        reference: &str,
        purpose: TicketPurpose,
        port: u16,
    ) -> Result<Attachment> {
        let session = self.find_session(caller.workspace.id, reference).await?;
        let session = match caller.may_session(Action::SessionAttach, &session) {
            // Who may get in may wait for a start, too.
            Ok(()) => self.running(caller, &session.id.to_string()).await?,
            Err(refusal) if purpose == TicketPurpose::Forward => return Err(refusal),
            Err(_) => {
                self.may_visit(caller, &session, port).await?;
                if session.state != SessionState::Running {
                    return Err(not_running(&session));
                }
                session
            }
        };
        let wanted = TicketFor { purpose, ssh_key: None, port: Some(port) };
        self.issue_ticket(caller, session, wanted).await
    }

    /// Spends a ticket and answers the value of the cookie that the browser comes with from now on.
    ///
    /// # Errors
    /// `ticket_refused` for everything that is no valid ticket for this session, port and purpose.
    pub async fn enter_preview(
        &self,
        place: PreviewPlace,
        ticket: &Secret<String>,
        origin: Origin,
    ) -> Result<Secret<String>> {
        let refuse = || refused(TicketPurpose::Preview);
        let ticket = self.find_ticket(ticket, TicketPurpose::Preview, Some(place.port)).await?;
        let session = self.store().session(ticket.workspace, ticket.session).await?.ok_or_else(refuse)?;
        let lives = session.epoch == ticket.epoch && session.state == SessionState::Running;
        if session.id != place.session || !lives {
            return Err(refuse());
        }
        // An access token is soon replaced by another of its sign-in; a personal token is all there is.
        let token = self.store().token(ticket.user, ticket.token).await?.ok_or_else(refuse)?;
        let pass = Pass {
            user: ticket.user,
            sign_in: ticket.sign_in,
            token: (token.kind == TokenKind::Personal).then_some(token.id),
            expires_at: self.now().after(COOKIE_LIFE),
        };
        if !self.pass_admits(&pass, &session, place.port).await? {
            return Err(refuse());
        }
        self.spend_ticket(&ticket, &session, origin).await?;
        let plain = serde_json::to_vec(&pass).map_err(|error| super::fault("preview.enter", error))?;
        let sealed = self.seal(session.workspace, &cookie_place(place), &plain)?;
        Ok(Secret::new(format!("{}{SEPARATOR}{sealed}", session.workspace)))
    }

    /// Whether a cookie's value is ours, for this very place, and its user may come now.
    async fn cookie_admits(&self, session: &Session, port: u16, value: &Secret<String>) -> Result<bool> {
        let Some((workspace, sealed)) = value.expose().split_once(SEPARATOR) else { return Ok(false) };
        if workspace.parse::<Id<Workspace>>().ok() != Some(session.workspace)
            || session.state == SessionState::Deleting
        {
            return Ok(false);
        }
        let place = cookie_place(PreviewPlace { session: session.id, port });
        let Ok(plain) = self.sealer().open(session.workspace, &place, sealed) else { return Ok(false) };
        let Ok(pass) = serde_json::from_slice::<Pass>(plain.expose()) else { return Ok(false) };
        self.pass_admits(&pass, session, port).await
    }

    /// Whether the user of a pass may come now.
    async fn pass_admits(&self, pass: &Pass, session: &Session, port: u16) -> Result<bool> {
        let now = self.now();
        let sign_in = self.store().sign_in(pass.sign_in).await?;
        if pass.expires_at <= now || sign_in.is_none_or(|sign_in| sign_in.revoked_at.is_some()) {
            return Ok(false);
        }
        if let Some(id) = pass.token {
            let token = self.store().token(pass.user, id).await?;
            if token.is_none_or(|token| token.revoked_at.is_some() || token.expires_at <= now) {
                return Ok(false);
            }
        }
        let Some(membership) = self.store().membership(session.workspace, pass.user).await? else {
            return Ok(false);
        };
        let relation = relation_to(session, pass.user);
        if permission::allows(membership.role, Action::SessionAttach, relation) {
            return Ok(true);
        }
        Ok(rules::may_visit(membership.role, relation, self.visibility(session, port).await?))
    }
}

/// What a cookie's seal is bound to: it is of no use at another preview.
fn cookie_place(place: PreviewPlace) -> String {
    format!("{}/preview/{}", place.session, place.port)
}

fn not_running(session: &Session) -> Error {
    Error::conflict(
        "not_running",
        format!("The session is {:?}.", session.state).to_lowercase(),
        "Who works in it starts it: `flare session start`.",
    )
}
