//! Previews: who may look at a port, by token, by the cookie that a ticket is exchanged for, or because it is public.
//!
//! Nothing here starts a machine. A visitor who may not come learns the same whether there is such a session or not.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{
    Origin, Role, Session, SessionState, SignIn, TicketPurpose, Token, TokenKind, User, Version, Visibility,
    Workspace,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::attach::{Attachment, TicketFor, refused};
use super::caller::relation_to;
use super::seat::{Right, Standing, Who};
use super::stay::Stay;
use super::{Caller, ControlPlane};
use crate::domain::permission::{self, Action, Relation};
use crate::domain::preview as rules;
use crate::domain::token_text::{self, Type};
use crate::error::{Error, Kind, Result};

/// Life of a preview's cookie; then the browser enters again.
pub const COOKIE_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Seals of a place that are opened for one request; each costs reads. What is no seal of the place costs none.
const SEALS: usize = 16;
/// How often the records are read again where a commit came in between.
const LOOKS: usize = 4;

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
#[derive(Debug)]
pub enum Visit {
    /// The visitor may come.
    Welcome {
        /// Why.
        ground: Ground,
        /// The session.
        session: Box<Session>,
        /// Whom to call; `None` where the session does not run.
        target: Option<AgentTarget>,
        /// What is open for the visitor ends with it.
        stay: Stay,
    },
    /// The visitor is unknown, or there is nothing there.
    Stranger,
}

/// Why somebody may look, as it was read.
struct Grounds {
    ground: Ground,
    session: Session,
    who: Option<Who>,
    standing: Standing,
    expires_at: Option<Timestamp>,
}

/// Who may come by a cookie.
struct Admitted {
    who: Who,
    standing: Standing,
    /// The cookie's end, or its token's.
    expires_at: Timestamp,
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
    /// stranger from the next request on, and what is open for them ends.
    ///
    /// # Errors
    /// With a token: `Unauthenticated`, `NotFound`, `Forbidden`. Otherwise only when the store cannot answer, or when the
    /// server carries too many connections.
    pub async fn visit(&self, place: PreviewPlace, credential: &Credential, origin: Origin) -> Result<Visit> {
        for _ in 0..LOOKS {
            let seat = self.seats().reserve(place.session)?;
            let Some(grounds) = self.grounds(place, credential, origin.clone()).await? else {
                return Ok(Visit::Stranger);
            };
            let Grounds { ground, session, who, standing, expires_at } = grounds;
            let right = Right {
                workspace: session.workspace,
                session: session.id,
                epoch: session.epoch,
                who,
                port: Some(place.port),
            };
            if seat.occupy(right, standing) {
                let target = match session.state {
                    SessionState::Running => Some(self.target(&session)?),
                    _ => None,
                };
                let stay = Stay::looking(seat, expires_at);
                return Ok(Visit::Welcome { ground, session: Box::new(session), target, stay });
            }
        }
        Err(Error::new(
            Kind::Unavailable,
            "changing",
            "Who may look at this preview changed while the request was looked at.",
            "Try again in a moment.",
        )
        .after(Duration::from_secs(1)))
    }

    async fn grounds(
        &self,
        place: PreviewPlace,
        credential: &Credential,
        origin: Origin,
    ) -> Result<Option<Grounds>> {
        if let Credential::Bearer(token) = credential {
            return self.grounds_by_token(place, token, origin).await.map(Some);
        }
        let Some(session) = self.store().session_of_host(place.session).await? else { return Ok(None) };
        if session.state == SessionState::Deleting {
            return Ok(None);
        }
        if let Credential::Cookies(values) = credential {
            let passes = values.iter().filter_map(|value| self.open_pass(&session, place.port, value));
            for pass in passes.take(SEALS) {
                if let Some(admitted) = self.pass_admits(&pass, &session, place.port).await? {
                    return Ok(Some(Grounds {
                        ground: Ground::Cookie,
                        session,
                        who: Some(admitted.who),
                        standing: admitted.standing,
                        expires_at: Some(admitted.expires_at),
                    }));
                }
            }
        }
        let (visibility, visible_until) = self.visibility(&session, place.port).await?;
        let standing =
            Standing { relation: Relation::Foreign, role: Role::Viewer, visibility, visible_until };
        let public = Grounds { ground: Ground::Public, session, who: None, standing, expires_at: None };
        Ok((visibility == Visibility::Public).then_some(public))
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

    async fn grounds_by_token(
        &self,
        place: PreviewPlace,
        token: &Secret<String>,
        origin: Origin,
    ) -> Result<Grounds> {
        let caller = self.authenticate(token.expose(), origin).await?;
        let session = self.store().session(caller.workspace.id, place.session).await?;
        let session = session
            .filter(|session| session.state != SessionState::Deleting)
            .ok_or_else(|| Error::not_found("session"))?;
        let (visibility, visible_until) = self.may_visit(&caller, &session, place.port).await?;
        // An access token is soon replaced by another of its sign-in; a personal token is all there is.
        let personal = token_text::recognise(token.expose()) == Some(Type::Personal);
        let expires_at = match personal {
            true => self.store().token(caller.user.id, caller.token).await?.map(|token| token.expires_at),
            false => None,
        };
        let relation = relation_to(&session, caller.user.id);
        let who = Who {
            user: caller.user.id,
            sign_in: caller.sign_in,
            token: Some(caller.token),
            attach: caller.scopes.contains(&Action::SessionAttach.scope()),
        };
        let standing = Standing { relation, role: caller.role, visibility, visible_until };
        Ok(Grounds { ground: Ground::Bearer, session, who: Some(who), standing, expires_at })
    }

    /// Whether role and token allow the caller to look at a port, and because of which visibility.
    async fn may_visit(
        &self,
        caller: &Caller,
        session: &Session,
        port: u16,
    ) -> Result<(Visibility, Option<Timestamp>)> {
        let entering = caller.may_session(Action::SessionAttach, session);
        // Who may get in needs no visibility.
        let Err(refusal) = entering else { return Ok((Visibility::Private, None)) };
        let seen = self.visibility(session, port).await?;
        if seen.0 == Visibility::Private {
            return Err(refusal);
        }
        caller.may(Action::Read, Relation::Own)?;
        Ok(seen)
    }

    /// Who may look at a port now, and until when somebody said so.
    async fn visibility(&self, session: &Session, port: u16) -> Result<(Visibility, Option<Timestamp>)> {
        let setting = self.store().port_setting(session.workspace, session.id, port).await?;
        let now = self.now();
        if let Some(said) = &setting
            && said.expires_at.is_none_or(|expires_at| expires_at > now)
        {
            return Ok((said.visibility, said.expires_at));
        }
        let version = self.store().version(session.workspace, session.version).await?;
        let declared =
            version.and_then(|version: Version| version.spec).map(|spec| spec.ports).unwrap_or_default();
        Ok((rules::visibility(&declared, setting.as_ref(), port, now), None))
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
        if self.pass_admits(&pass, &session, place.port).await?.is_none() {
            return Err(refuse());
        }
        self.spend_ticket(&ticket, &session, origin).await?;
        let plain = serde_json::to_vec(&pass).map_err(|error| super::fault("preview.enter", error))?;
        let sealed = self.seal(session.workspace, &cookie_place(place), &plain)?;
        Ok(Secret::new(format!("{}{SEPARATOR}{sealed}", session.workspace)))
    }

    /// What a cookie's value says, if it is ours and for this very place.
    fn open_pass(&self, session: &Session, port: u16, value: &Secret<String>) -> Option<Pass> {
        let (workspace, sealed) = value.expose().split_once(SEPARATOR)?;
        if workspace.parse::<Id<Workspace>>().ok() != Some(session.workspace) {
            return None;
        }
        let place = cookie_place(PreviewPlace { session: session.id, port });
        let plain = self.sealer().open(session.workspace, &place, sealed).ok()?;
        serde_json::from_slice::<Pass>(plain.expose()).ok()
    }

    /// Whether the user of a pass may come now.
    async fn pass_admits(&self, pass: &Pass, session: &Session, port: u16) -> Result<Option<Admitted>> {
        let now = self.now();
        let sign_in = self.store().sign_in(pass.sign_in).await?;
        if pass.expires_at <= now || sign_in.is_none_or(|sign_in| sign_in.revoked_at.is_some()) {
            return Ok(None);
        }
        let (mut attach, mut expires_at) = (true, pass.expires_at);
        if let Some(id) = pass.token {
            let token = self.store().token(pass.user, id).await?;
            let token = token.filter(|token| token.revoked_at.is_none() && token.expires_at > now);
            let Some(token) = token else { return Ok(None) };
            attach = token.scopes.contains(&Action::SessionAttach.scope());
            expires_at = expires_at.min(token.expires_at);
        }
        let Some(membership) = self.store().membership(session.workspace, pass.user).await? else {
            return Ok(None);
        };
        let (role, relation) = (membership.role, relation_to(session, pass.user));
        let who = Who { user: pass.user, sign_in: pass.sign_in, token: pass.token, attach };
        let mut standing = Standing { relation, role, visibility: Visibility::Private, visible_until: None };
        if !(attach && permission::allows(role, Action::SessionAttach, relation)) {
            (standing.visibility, standing.visible_until) = self.visibility(session, port).await?;
            if !rules::may_visit(role, relation, standing.visibility, attach) {
                return Ok(None);
            }
        }
        Ok(Some(Admitted { who, standing, expires_at }))
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
