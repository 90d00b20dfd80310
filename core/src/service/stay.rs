//! Who is in a machine right now, and when their right to be there ends. What a commit takes away is cut in the moment of the
//! commit, from memory: nobody polls. One process serves a deployment's connections, so it knows all of them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use burstflare_ports::id::Id;
use burstflare_ports::machine::Epoch;
use burstflare_ports::record::{
    Actor, AuditEntry, Origin, Role, Session, SessionState, SignIn, Ticket, Token, TokenKind, User, Workspace,
};
use burstflare_ports::store::{ChangeSet, Family, Key, Put};
use burstflare_ports::time::Timestamp;
use futures_util::future::{Either, select};
use futures_util::task::AtomicWaker;
use serde_json::json;

use super::caller::relation_to;
use super::{Caller, ControlPlane, refusal};
use crate::domain::permission::{self, Action, Relation};
use crate::error::{Error, Kind, Result};

/// Stays at once, in all machines.
const STAYS: usize = 10_000;

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

/// By what right somebody is in a machine.
#[derive(Debug, Clone)]
pub(super) struct Right {
    workspace: Id<Workspace>,
    session: Id<Session>,
    epoch: Epoch,
    user: Id<User>,
    token: Id<Token>,
    sign_in: Id<SignIn>,
}

impl Right {
    /// A ticket's.
    pub(super) fn of_ticket(ticket: &Ticket) -> Self {
        Self {
            workspace: ticket.workspace,
            session: ticket.session,
            epoch: ticket.epoch,
            user: ticket.user,
            token: ticket.token,
            sign_in: ticket.sign_in,
        }
    }
}

/// What changes in a seat.
#[derive(Debug, Clone, Copy)]
struct Standing {
    relation: Relation,
    role: Role,
    over: Option<End>,
}

#[derive(Debug)]
struct Seat {
    right: Right,
    standing: Mutex<Standing>,
    waker: AtomicWaker,
}

impl Seat {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, end: End) {
        self.standing().over.get_or_insert(end);
        self.waker.wake();
    }

    /// Judges anew after `change` of role or relation.
    fn judge(&self, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing();
        change(&mut standing);
        let allowed = permission::allows(standing.role, Action::SessionAttach, standing.relation);
        drop(standing);
        if !allowed {
            self.cut(End::Revoked);
        }
    }

    /// The session was committed in a new state.
    fn settle(&self, lives: bool, relation: Relation) {
        if lives {
            self.judge(|standing| standing.relation = relation);
        } else {
            self.cut(End::MachineEnded);
        }
    }
}

type Seats = BTreeMap<u64, Arc<Seat>>;

/// All who are in a machine.
#[derive(Debug, Default)]
pub(super) struct Stays {
    seats: Mutex<(u64, Seats)>,
}

impl Stays {
    fn seats(&self) -> MutexGuard<'_, (u64, Seats)> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, right: Right) -> Result<Place> {
        // Until the records are read nothing is known; what is cut meanwhile stays cut.
        let standing = Standing { relation: Relation::Own, role: Role::Owner, over: None };
        let seat = Arc::new(Seat { right, standing: Mutex::new(standing), waker: AtomicWaker::new() });
        let mut seats = self.seats();
        if seats.1.len() >= STAYS {
            return Err(Error::new(
                Kind::Unavailable,
                "too_many_connections",
                "The server carries as many connections as it can.",
                "Try again in a moment.",
            )
            .after(std::time::Duration::from_secs(5)));
        }
        seats.0 += 1;
        let number = seats.0;
        seats.1.insert(number, Arc::clone(&seat));
        Ok(Place { stays: Arc::clone(self), number, seat })
    }

    /// Ends what the commit took the right from. To be called after the commit.
    pub(super) fn after(&self, change: &ChangeSet) {
        let seats = self.seats();
        if seats.1.is_empty() {
            return;
        }
        let each = |which: &dyn Fn(&Right) -> bool, act: &dyn Fn(&Seat)| {
            seats.1.values().filter(|seat| which(&seat.right)).for_each(|seat| act(seat));
        };
        let revoke = |seat: &Seat| seat.cut(End::Revoked);
        for put in &change.puts {
            match put {
                Put::SignIn(one) if one.revoked_at.is_some() => {
                    each(&|right| right.sign_in == one.id, &revoke);
                }
                Put::Token(one) if one.revoked_at.is_some() => each(&|right| right.token == one.id, &revoke),
                Put::Membership(one) => {
                    each(&|right| right.workspace == one.workspace && right.user == one.user, &|seat| {
                        seat.judge(|standing| standing.role = one.role);
                    });
                }
                Put::Session(one) => each(&|right| right.session == one.id, &|seat| {
                    // While it stops, the programs inside end first, and those who are there see it.
                    let lives = matches!(one.state, SessionState::Running | SessionState::Stopping);
                    seat.settle(lives && one.epoch == seat.right.epoch, relation_to(one, seat.right.user));
                }),
                _ => {}
            }
        }
        for key in &change.deletes {
            match *key {
                Key::SignIn(id) => each(&|right| right.sign_in == id, &revoke),
                Key::Token(id) => each(&|right| right.token == id, &revoke),
                Key::User(id) => each(&|right| right.user == id, &revoke),
                Key::Workspace(id) => each(&|right| right.workspace == id, &revoke),
                Key::Membership(workspace, user) => {
                    each(&|right| right.workspace == workspace && right.user == user, &revoke);
                }
                Key::Session(id) => {
                    each(&|right| right.session == id, &|seat| seat.cut(End::MachineEnded));
                }
                _ => {}
            }
        }
    }
}

/// A seat that is given back when dropped.
#[derive(Debug)]
struct Place {
    stays: Arc<Stays>,
    number: u64,
    seat: Arc<Seat>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stays.seats().1.remove(&self.number);
    }
}

/// Somebody's presence in a machine. Dropping it ends it without a word; [`ControlPlane::leave`] records it.
#[derive(Debug)]
pub struct Stay {
    place: Place,
    purpose: &'static str,
    origin: Origin,
    since: Timestamp,
    expires_at: Option<Timestamp>,
}

impl Stay {
    /// Whether it is over already.
    #[must_use]
    pub fn over(&self) -> Option<End> {
        self.place.seat.standing().over
    }

    async fn cut(&self) -> End {
        let seat = &self.place.seat;
        poll_fn(|cx| {
            seat.waker.register(cx.waker());
            self.over().map_or(Poll::Pending, Poll::Ready)
        })
        .await
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
            user: caller.user.id,
            token: caller.token,
            sign_in: caller.sign_in,
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
        let place = self.stays().take(right.clone())?;
        let now = self.now();
        let session = self.store().session(right.workspace, right.session).await?;
        let sign_in = self.store().sign_in(right.sign_in).await?;
        let token = self.store().token(right.user, right.token).await?;
        let membership = self.store().membership(right.workspace, right.user).await?;
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
        let relation = relation_to(&session, right.user);
        place.seat.judge(|standing| {
            standing.relation = relation;
            standing.role = membership.role;
        });
        let stay = Stay { place, purpose, origin, since: now, expires_at };
        Ok(stay.over().is_none().then_some((stay, session)))
    }

    /// Waits for the end of the right to be there. One listener at a time.
    pub async fn stay_over(&self, stay: &Stay) -> End {
        let mut cut = pin!(stay.cut());
        let Some(end) = stay.expires_at else { return cut.await };
        loop {
            let left = end.since(self.now());
            if left.is_zero() {
                return End::Revoked;
            }
            let pause = self.ports().clock.sleep(left);
            match select(cut.as_mut(), pause).await {
                Either::Left((end, _)) => return end,
                Either::Right(_) => {}
            }
        }
    }

    /// Records the end of a stay: bytes both ways, how long, and why. At best: what cannot be recorded is logged.
    pub async fn leave(&self, stay: Stay, inward: u64, outward: u64, end: End) {
        let right = &stay.place.seat.right;
        let now = self.now();
        let entry = AuditEntry {
            at: now,
            actor: Actor::User { user: right.user, token: Some(right.token) },
            origin: stay.origin.clone(),
            action: "session.detach".to_owned(),
            target: right.session.to_string(),
            detail: json!({
                "purpose": stay.purpose,
                "epoch": right.epoch,
                "bytes_in": inward,
                "bytes_out": outward,
                "ms": u64::try_from(now.since(stay.since).as_millis()).unwrap_or(u64::MAX),
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

#[cfg(test)]
mod tests {
    use burstflare_ports::record::Membership;

    use super::*;

    fn id<K: burstflare_ports::id::Kind>(number: u8) -> Id<K> {
        Id::new(Timestamp::default(), [number; 10])
    }

    fn sit(stays: &Arc<Stays>, user: u8, relation: Relation) -> Place {
        let (workspace, session) = (id(1), id(2));
        let right =
            Right { workspace, session, epoch: 3, user: id(user), token: id(user), sign_in: id(user) };
        let place = stays.take(right).expect("a seat");
        place.seat.judge(|standing| (standing.role, standing.relation) = (Role::Member, relation));
        place
    }

    fn over(place: &Place) -> Option<End> {
        place.seat.standing().over
    }

    fn membership(workspace: u8, user: u8, role: Role) -> ChangeSet {
        let mut change = ChangeSet::new(Family::Directory);
        change.puts.push(Put::Membership(Membership {
            workspace: id(workspace),
            user: id(user),
            role,
            created_at: Timestamp::default(),
            revision: 2,
        }));
        change
    }

    #[test]
    fn who_becomes_a_viewer_has_to_leave_and_others_stay() {
        let stays = Arc::default();
        let (one, other) = (sit(&stays, 5, Relation::Own), sit(&stays, 6, Relation::Shared));
        for change in [membership(9, 5, Role::Viewer), membership(1, 5, Role::Admin)] {
            stays.after(&change);
            assert_eq!((over(&one), over(&other)), (None, None));
        }
        stays.after(&membership(1, 5, Role::Viewer));
        stays.after(&membership(1, 5, Role::Owner));
        assert_eq!((over(&one), over(&other)), (Some(End::Revoked), None), "what was cut stays cut");
    }

    #[test]
    fn who_is_removed_has_to_leave() {
        let stays = Arc::default();
        let (one, other) = (sit(&stays, 5, Relation::Own), sit(&stays, 6, Relation::Shared));
        let mut change = ChangeSet::new(Family::Directory);
        change.deletes.push(Key::Membership(id(1), id(5)));
        stays.after(&change);
        assert_eq!((over(&one), over(&other)), (Some(End::Revoked), None));
    }

    #[test]
    fn who_it_is_not_shared_with_any_more_has_to_leave() {
        let stays = Arc::default();
        let (one, other) = (sit(&stays, 5, Relation::Own), sit(&stays, 6, Relation::Shared));
        one.seat.settle(true, Relation::Own);
        other.seat.settle(true, Relation::Foreign);
        assert_eq!((over(&one), over(&other)), (None, Some(End::Revoked)));
        one.seat.settle(false, Relation::Own);
        assert_eq!(over(&one), Some(End::MachineEnded));
    }

    #[test]
    fn a_seat_is_given_back_and_their_number_is_bounded() {
        let stays = Arc::default();
        let mut places: Vec<Place> = (0..STAYS).map(|_| sit(&stays, 5, Relation::Own)).collect();
        let right = places[0].seat.right.clone();
        assert_eq!(stays.take(right.clone()).expect_err("full").code, "too_many_connections");
        places.pop();
        stays.take(right).expect("a free seat");
    }
}
