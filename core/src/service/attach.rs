//! Getting into a session: single-use tickets, and commands by API.

use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{
    Actor, AuditEntry, Goal, Origin, SecretHash, Session, SessionState, Ticket, TicketPurpose,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, Put, SingleUse, Spend};
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{AGENT_PORT, ExecRequest};
use serde_json::json;

use super::files::moved_on;
use super::seat::Right;
use super::stay::Stay;
use super::wait::Waiter;
use super::{Caller, ControlPlane, refusal};
use crate::domain::permission::{Action, Relation};
use crate::domain::ssh_key;
use crate::domain::token_text::{self, Type};
use crate::error::{Error, Kind, Result};

/// Life of a ticket.
const TICKET: Duration = Duration::from_secs(60);
/// How long a request waits for a session that is being started.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of standard input that come with a request.
const INLINE: usize = 128 << 10;
/// When to try again where a start is slow.
const LOOK: Duration = Duration::from_secs(2);

/// A wish to get into a session.
#[derive(Debug, Clone)]
pub struct Attach {
    /// What for.
    pub purpose: TicketPurpose,
    /// The public key that will log in, in OpenSSH's one-line format.
    pub ssh_key: Option<String>,
    /// The port, for what leads to one.
    pub port: Option<u16>,
}

/// What a ticket is made for.
pub(super) struct TicketFor {
    pub(super) purpose: TicketPurpose,
    pub(super) ssh_key: Option<String>,
    pub(super) port: Option<u16>,
}

/// A ticket and what its bearer needs to know.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The single-use text.
    pub ticket: Secret<String>,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// The session, running.
    pub session: Session,
}

/// What a ticket opened.
#[derive(Debug)]
pub struct Redeemed {
    /// Whom to call.
    pub target: AgentTarget,
    /// The ticket.
    pub ticket: Ticket,
    /// The presence that it began; what was opened ends with it.
    pub stay: Stay,
}

impl ControlPlane {
    /// Makes a ticket into a running session; a session that is just being started is waited for.
    ///
    /// # Errors
    /// `not_running`, `Forbidden`, an unusable key.
    pub async fn attach(&self, caller: &Caller, session: &str, wish: Attach) -> Result<Attachment> {
        if let TicketPurpose::Preview | TicketPurpose::Forward = wish.purpose {
            let port = wish.port.filter(|port| !matches!(*port, 0 | AGENT_PORT));
            let port = port.ok_or_else(|| Error::invalid("port", "port is a number from 1 to 65535"))?;
            return self.attach_port(caller, session, wish.purpose, port).await;
        }
        if wish.port.is_some() {
            return Err(Error::invalid("port", "only what leads to a port takes one"));
        }
        let ssh_key = match (&wish.ssh_key, wish.purpose) {
            (Some(line), TicketPurpose::Ssh) => {
                Some(ssh_key::parse(line).map_err(|error| Error::invalid("ssh_key", error.to_string()))?)
            }
            (None, TicketPurpose::Ssh) => {
                return Err(Error::invalid("ssh_key", "an SSH connection needs the public key that logs in"));
            }
            (Some(_), _) => return Err(Error::invalid("ssh_key", "only an SSH connection takes a key")),
            (None, _) => None,
        };
        let session = self.running(caller, session).await?;
        let wanted = TicketFor { purpose: wish.purpose, ssh_key, port: None };
        self.issue_ticket(caller, session, wanted).await
    }

    /// Commits a ticket into a session that runs.
    pub(super) async fn issue_ticket(
        &self,
        caller: &Caller,
        session: Session,
        wanted: TicketFor,
    ) -> Result<Attachment> {
        let now = self.now();
        let text = token_text::compose(Type::Ticket, &self.random()?);
        let ticket = Ticket {
            id: self.new_id(now)?,
            workspace: session.workspace,
            session: session.id,
            user: caller.user.id,
            token: caller.token,
            sign_in: caller.sign_in,
            purpose: wanted.purpose,
            epoch: session.epoch,
            ssh_key: wanted.ssh_key,
            port: wanted.port,
            hash: token_text::hash(&text),
            created_at: now,
            expires_at: now.after(TICKET),
            spent_at: None,
        };
        let expires_at = ticket.expires_at;
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.audit.push(caller.audit(
            self,
            "session.attach",
            session.id,
            json!({ "purpose": wanted.purpose, "port": wanted.port, "ticket": ticket.id, "epoch": session.epoch }),
        ));
        change.puts.push(Put::Ticket(ticket));
        self.commit(change).await.map_err(refusal)?;
        Ok(Attachment { ticket: text, expires_at, session })
    }

    /// Spends a ticket. It opens the life of the machine it was made for, and no later one.
    ///
    /// # Errors
    /// `Unauthenticated` for everything that is no valid ticket for this session and purpose.
    pub async fn redeem(
        &self,
        text: &Secret<String>,
        session: &str,
        purpose: TicketPurpose,
        origin: Origin,
    ) -> Result<Redeemed> {
        self.redeem_for(text, session, purpose, None, origin).await
    }

    /// [`ControlPlane::redeem`] for a ticket to a port.
    ///
    /// # Errors
    /// As there, and for another port's ticket.
    pub async fn redeem_port(
        &self,
        text: &Secret<String>,
        session: &str,
        port: u16,
        origin: Origin,
    ) -> Result<Redeemed> {
        self.redeem_for(text, session, TicketPurpose::Forward, Some(port), origin).await
    }

    async fn redeem_for(
        &self,
        text: &Secret<String>,
        session: &str,
        purpose: TicketPurpose,
        port: Option<u16>,
        origin: Origin,
    ) -> Result<Redeemed> {
        let refuse = || refused(purpose);
        let ticket = self.find_ticket(text, purpose, port).await?;
        // The right to get in may have gone since the ticket was made.
        let right = Right::of_ticket(&ticket);
        let (stay, record) = self.enter(right, word(purpose), origin.clone()).await?.ok_or_else(refuse)?;
        if session != record.id.to_string() && session != record.name.as_str() {
            return Err(refuse());
        }
        self.spend_ticket(&ticket, &record, origin).await?;
        Ok(Redeemed { target: self.target(&record)?, ticket, stay })
    }

    /// The ticket of a text, if it is for this purpose and port; whether it can still be spent is seen when it is.
    pub(super) async fn find_ticket(
        &self,
        text: &Secret<String>,
        purpose: TicketPurpose,
        port: Option<u16>,
    ) -> Result<Ticket> {
        if token_text::recognise(text.expose()) != Some(Type::Ticket) {
            return Err(refused(purpose));
        }
        let ticket = self.store().ticket(&SecretHash::of(text.expose())).await?;
        ticket
            .filter(|ticket| ticket.purpose == purpose && ticket.port == port)
            .ok_or_else(|| refused(purpose))
    }

    /// Spends a ticket into a session as it was read.
    pub(super) async fn spend_ticket(&self, ticket: &Ticket, record: &Session, origin: Origin) -> Result<()> {
        let now = self.now();
        let what = SingleUse::Ticket(ticket.id);
        let mut change = ChangeSet::new(Family::Workspace(ticket.workspace));
        change.guards.push(Guard::Unspent(what, now));
        change.guards.push(Guard::Revision(Key::Session(record.id), record.revision));
        change.spends.push(Spend { what, at: now });
        change.audit.push((
            Some(ticket.workspace),
            AuditEntry {
                at: now,
                actor: Actor::User { user: ticket.user, token: Some(ticket.token) },
                origin,
                action: "session.enter".to_owned(),
                target: record.id.to_string(),
                detail: json!({ "purpose": ticket.purpose, "port": ticket.port, "ticket": ticket.id }),
            },
        ));
        match self.commit(change).await {
            Ok(()) => Ok(()),
            Err(CommitError::Refused(_)) => Err(refused(ticket.purpose)),
            Err(error) => Err(refusal(error)),
        }
    }

    /// Runs a command in a session; the body is JSON lines of [`burstflare_ports::wire::ExecOutput`]. It breaks off, and the
    /// command ends with that unless it is detached, when the caller loses the right to be there.
    ///
    /// # Errors
    /// `not_running`, `Forbidden`, malformed input.
    pub async fn exec(
        &self,
        caller: &Caller,
        session: &str,
        request: &ExecRequest,
    ) -> Result<http::Response<Body>> {
        check(request)?;
        let session = self.running(caller, session).await?;
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.audit.push(caller.audit(
            self,
            "session.exec",
            session.id,
            json!({ "program": request.argv.first(), "epoch": session.epoch }),
        ));
        self.commit(change).await.map_err(refusal)?;
        let stay = self.stay(caller, &session, word(TicketPurpose::Exec)).await?;
        let target = self.target(&session)?;
        match self.agent_exec(&target, request).await {
            Ok(response) => Ok(response.map(|body| self.while_allowed(stay, body))),
            // An agent of version 1 refuses fields that it does not know.
            Err(error) if error.kind() == ErrorKind::Invalid && request.needs_streams() => {
                let older = error.to_string().contains("unknown field");
                Err(if older { super::files::too_old() } else { error.into() })
            }
            Err(error) => Err(self.unanswered(&session, error).await),
        }
    }

    /// What a call that got no answer means.
    pub(super) async fn unanswered(&self, session: &Session, error: PortError) -> Error {
        // Perhaps the machine is gone: the actor finds out.
        self.ports().actors.wake(session.workspace, session.id).await.ok();
        match error.kind() {
            ErrorKind::Denied | ErrorKind::Stale => moved_on(),
            _ => error.into(),
        }
    }

    /// The session, once it runs. Waits for one that is on its way there.
    pub(super) async fn running(&self, caller: &Caller, reference: &str) -> Result<Session> {
        let until = self.now().after(PATIENCE);
        let mut waiter: Option<Waiter> = None;
        loop {
            let session = self.find_session(caller.workspace.id, reference).await?;
            caller.may_session(Action::SessionAttach, &session)?;
            // During a restart it stops and sleeps for a moment on its way back.
            let coming = session.goal == Goal::Run;
            match session.state {
                SessionState::Running => return Ok(session),
                SessionState::Starting | SessionState::Stopping | SessionState::Sleeping
                    if coming && self.now() < until => {}
                SessionState::Starting => {
                    return Err(Error::new(
                        Kind::Timeout,
                        "start_slow",
                        "The session is still being started.",
                        "Try again in a moment.",
                    )
                    .after(LOOK));
                }
                state => {
                    return Err(Error::conflict(
                        "not_running",
                        format!("The session is {state:?}.").to_lowercase(),
                        "Start it: `flare session start`.",
                    ));
                }
            }
            // Listening begins before the record is read again, so that no news falls in between.
            if let Some(waiter) = &mut waiter {
                waiter.news(self.ports().clock.as_ref()).await;
            } else {
                let hints = self.ports().feed.subscribe(session.workspace).await?;
                waiter = Some(self.inner.waits.begin(session.id, hints));
            }
        }
    }

    /// Whether the caller may get into sessions of this workspace at all: asked before a body is read.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn may_attach(&self, caller: &Caller) -> Result<()> {
        caller.may(Action::SessionAttach, Relation::Own)
    }
}

/// The answer to everything that is no valid ticket; it does not say why.
pub(super) fn refused(purpose: TicketPurpose) -> Error {
    let hint = match purpose {
        TicketPurpose::Ssh | TicketPurpose::Terminal => "Ask for a new one: `flare ssh` does that by itself.",
        TicketPurpose::Exec => "Ask for a new one: `flare exec` does that by itself.",
        TicketPurpose::Preview => "Come in again: `flare open`.",
        TicketPurpose::Forward => "Ask for a new one: `flare port-forward` does that by itself.",
    };
    Error::new(
        Kind::Unauthenticated,
        "ticket_refused",
        "The ticket is not valid, was used already, or has expired.",
        hint,
    )
}

/// A purpose as a word of the audit log.
const fn word(purpose: TicketPurpose) -> &'static str {
    match purpose {
        TicketPurpose::Ssh => "ssh",
        TicketPurpose::Terminal => "terminal",
        TicketPurpose::Preview => "preview",
        TicketPurpose::Forward => "forward",
        TicketPurpose::Exec => "exec",
    }
}

fn check(request: &ExecRequest) -> Result<()> {
    let total: usize = request.argv.iter().map(String::len).sum();
    if request.argv.is_empty() || request.argv.len() > 1024 || total > 128 << 10 {
        return Err(Error::invalid("argv", "argv has 1 to 1,024 items and at most 128 KiB"));
    }
    let variables: usize = request.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if request.env.len() > 256 || variables > 128 << 10 {
        return Err(Error::invalid("env", "env has at most 256 variables and 128 KiB"));
    }
    if request.env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(Error::invalid("env", "names of variables are not empty and have no ="));
    }
    if request.argv.iter().chain(request.env.values()).chain(&request.cwd).any(|text| text.contains('\0')) {
        return Err(Error::invalid("argv", "texts cannot hold NUL characters"));
    }
    if request.cwd.as_ref().is_some_and(|cwd| !cwd.starts_with('/')) {
        return Err(Error::invalid("cwd", "cwd is an absolute path"));
    }
    if request.timeout_ms.is_some_and(|limit| limit == 0 || limit > 86_400_000) {
        return Err(Error::invalid("timeout_ms", "timeout_ms is 1 to 86,400,000"));
    }
    if request.stdin.is_some() && request.stdin_b64.is_some() {
        return Err(Error::invalid("stdin_b64", "stdin and stdin_b64 exclude each other"));
    }
    // In base64 a third longer.
    if request.stdin.as_ref().is_some_and(|text| text.len() > INLINE)
        || request.stdin_b64.as_ref().is_some_and(|text| text.len() > INLINE / 3 * 4 + 4)
    {
        return Err(Error::invalid(
            "stdin",
            "stdin has at most 128 KiB; more is streamed over the WebSocket",
        ));
    }
    Ok(())
}
