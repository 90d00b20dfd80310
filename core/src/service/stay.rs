//! Being in a machine, or looking at one of its ports, for as long as there is a right to. Where people sit, and what cuts
//! them off, is in [`super::seat`].

use std::future::poll_fn;
use std::pin::pin;

use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::record::{Actor, AuditEntry, Origin, Session, SessionState, TokenKind};
use burstflare_ports::store::{ChangeSet, Family};
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::unfold;
use serde_json::json;

use super::caller::relation_to;
use super::seat::{Place, Right, Standing, Who};
use super::{Caller, ControlPlane, refusal};
use crate::domain::permission::Action;
use crate::error::{Error, Result};

/// Why a stay is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// One side hung up.
    Left,
    /// The sign-in, the token, the membership or the sharing was taken back, or the token expired.
    Revoked,
    /// The machine's life ended.
    MachineEnded,
}

impl End {
    /// `left`, `revoked` or `machine_ended`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Revoked => "revoked",
            Self::MachineEnded => "machine_ended",
        }
    }
}

/// Somebody's presence in a machine, or their look at one of its ports. Dropping it ends it without a word;
/// [`ControlPlane::leave`] records it.
#[derive(Debug)]
pub struct Stay {
    place: Place,
    expires_at: Option<Timestamp>,
    /// Looks at ports are not in the audit log one by one: a page makes hundreds.
    detail: Option<Box<Detail>>,
}

/// What the audit log is told besides.
#[derive(Debug)]
struct Detail {
    purpose: &'static str,
    origin: Origin,
    since: Timestamp,
}

impl Stay {
    /// Of who looks at a port, until the right ends, at `expires_at` at the latest.
    pub(super) fn looking(place: Place, expires_at: Option<Timestamp>) -> Self {
        Self { place, expires_at, detail: None }
    }

    /// Whether it is over already.
    #[must_use]
    pub fn over(&self) -> Option<End> {
        self.place.seat.over()
    }

    fn until(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let shown = self.place.seat.until();
        (shown, [shown, self.expires_at].into_iter().flatten().min())
    }
}

impl ControlPlane {
    /// The caller is in this session from now on, until the answer is dropped or their right ends. `purpose` is a word
    /// for the audit log.
    ///
    /// # Errors
    /// `Forbidden`; `not_running`; when the server carries too many connections.
    pub async fn stay(&self, caller: &Caller, session: &Session, purpose: &'static str) -> Result<Stay> {
        caller.may_session(Action::SessionAttach, session)?;
        let right = Right {
            workspace: session.workspace,
            session: session.id,
            epoch: session.epoch,
            who: Some(Who {
                user: caller.user.id,
                sign_in: caller.sign_in,
                token: Some(caller.token),
                attach: true,
            }),
            port: None,
        };
        let (stay, _) = self.enter(right, purpose, caller.origin.clone()).await?.ok_or_else(|| {
            Error::conflict(
                "not_running",
                "The session's machine was ended or started anew in this moment.",
                "Try again: `flare session start` waits until it runs.",
            )
        })?;
        Ok(stay)
    }

    /// Takes a seat, then looks whether the right is there: a commit in between is seen by one or the other. `None`
    /// where there is no such right.
    pub(super) async fn enter(
        &self,
        right: Right,
        purpose: &'static str,
        origin: Origin,
    ) -> Result<Option<(Stay, Session)>> {
        let place = self.seats().take(right.clone())?;
        let Some(Who { user, sign_in, token: Some(token), .. }) = right.who else { return Ok(None) };
        let now = self.now();
        let session = self.store().session(right.workspace, right.session).await?;
        let sign_in = self.store().sign_in(sign_in).await?;
        let token = self.store().token(user, token).await?;
        let membership = self.store().membership(right.workspace, user).await?;
        let (Some(session), Some(sign_in), Some(token), Some(membership)) =
            (session, sign_in, token, membership)
        else {
            return Ok(None);
        };
        let revoked = sign_in.revoked_at.is_some()
            || token.revoked_at.is_some()
            || session.epoch != right.epoch
            || session.state != SessionState::Running;
        // An access token is soon replaced by another of its sign-in; a personal token is all there is.
        let expires_at = (token.kind == TokenKind::Personal).then_some(token.expires_at);
        if revoked || expires_at.is_some_and(|end| end <= now) {
            return Ok(None);
        }
        let relation = relation_to(&session, user);
        place.seat.judge(|standing| *standing = Standing { relation, role: membership.role, ..*standing });
        let stay = Stay { place, expires_at, detail: Some(Box::new(Detail { purpose, origin, since: now })) };
        Ok(stay.over().is_none().then_some((stay, session)))
    }

    /// Waits for the end of the right to be there. One listener at a time.
    pub async fn stay_over(&self, stay: &Stay) -> End {
        loop {
            let (shown, until) = stay.until();
            let news = pin!(poll_fn(|cx| stay.place.seat.poll_news(shown, cx)));
            let Some(until) = until else {
                match news.await {
                    Some(end) => return end,
                    None => continue,
                }
            };
            let left = until.since(self.now());
            if left.is_zero() {
                return End::Revoked;
            }
            if let Either::Left((Some(end), _)) = select(news, self.ports().clock.sleep(left)).await {
                return end;
            }
        }
    }

    /// A body that breaks off when the right to be there ends, which is then recorded. Its source is dropped with it.
    pub(super) fn while_allowed(&self, stay: Stay, body: Body) -> Body {
        let start = (self.clone(), stay, body.into_stream(), 0);
        Body::Stream(Box::pin(unfold(Some(start), |going| async move {
            let (plane, stay, mut flow, sent) = going?;
            let next = match select(pin!(plane.stay_over(&stay)), flow.next()).await {
                Either::Left((end, _)) => Err(end),
                Either::Right((chunk, _)) => Ok(chunk?),
            };
            match next {
                Ok(chunk) => {
                    let length = chunk.as_ref().map_or(0, Bytes::len);
                    let sent = u64::try_from(length).map_or(sent, |length| sent + length);
                    Some((chunk, Some((plane, stay, flow, sent))))
                }
                Err(end) => {
                    drop(flow);
                    plane.leave(stay, 0, sent, end).await;
                    let why = format!("the right to be in the session ended: {}", end.name());
                    Some((Err(PortError::new(ErrorKind::Stale, "session.exec", why)), None))
                }
            }
        })))
    }

    /// Records the end of a stay in a machine: bytes both ways, how long, and why. At best: what cannot be recorded is
    /// logged. A look at a port is not recorded; how it was entered is.
    pub async fn leave(&self, stay: Stay, inward: u64, outward: u64, end: End) {
        let (Some(right), Some(detail)) = (stay.place.seat.right(), &stay.detail) else { return };
        let Some(who) = &right.who else { return };
        let now = self.now();
        let entry = AuditEntry {
            at: now,
            actor: Actor::User { user: who.user, token: who.token },
            origin: detail.origin.clone(),
            action: "session.detach".to_owned(),
            target: right.session.to_string(),
            detail: json!({
                "purpose": detail.purpose,
                "epoch": right.epoch,
                "bytes_in": inward,
                "bytes_out": outward,
                "ms": u64::try_from(now.since(detail.since).as_millis()).unwrap_or(u64::MAX),
                "end": end.name(),
            }),
        };
        let mut change = ChangeSet::new(Family::Workspace(right.workspace));
        change.audit.push((Some(right.workspace), entry));
        if let Err(error) = self.commit(change).await.map_err(refusal) {
            tracing::warn!(%error, session = %right.session, "the end of a connection was not recorded");
        }
    }
}
