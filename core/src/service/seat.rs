//! Who is in a machine right now, or looks at one of its ports, and when their right to ends. What a commit takes away is cut
//! in the moment of the commit, from memory: nobody polls. One process serves a deployment's connections, so it knows all of
//! them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::machine::Epoch;
use burstflare_ports::record::{
    Role, Session, SessionState, SignIn, Ticket, Token, User, Visibility, Workspace,
};
use burstflare_ports::store::{ChangeSet, Key, Put};
use burstflare_ports::time::Timestamp;
use futures_util::task::AtomicWaker;

use super::caller::relation_to;
use super::stay::End;
use crate::domain::permission::Relation;
use crate::domain::preview as rules;
use crate::error::{Error, Kind, Result};

/// Seats at once, in all machines.
const SEATS: usize = 10_000;

/// By what right somebody is in a machine, or looks at it.
#[derive(Debug, Clone)]
pub(super) struct Right {
    pub(super) workspace: Id<Workspace>,
    pub(super) session: Id<Session>,
    pub(super) epoch: Epoch,
    /// `None` for a visitor whom nobody knows: the port has to be everybody's.
    pub(super) who: Option<Who>,
    /// For who looks at this port; others are in the machine.
    pub(super) port: Option<u16>,
}

/// Whose right it is, and what they signed in with.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) user: Id<User>,
    pub(super) sign_in: Id<SignIn>,
    /// Where the token's end is the right's.
    pub(super) token: Option<Id<Token>>,
    /// Whether the token is for getting in; one that is not leaves what members may see.
    pub(super) attach: bool,
}

impl Right {
    /// A ticket's.
    pub(super) fn of_ticket(ticket: &Ticket) -> Self {
        Self {
            workspace: ticket.workspace,
            session: ticket.session,
            epoch: ticket.epoch,
            who: Some(Who {
                user: ticket.user,
                sign_in: ticket.sign_in,
                token: Some(ticket.token),
                attach: true,
            }),
            port: None,
        }
    }

    fn allows(&self, standing: &Standing, visibility: Visibility) -> bool {
        let Some(who) = &self.who else { return visibility == Visibility::Public };
        // Who is in the machine itself is not there because a port is shown.
        let visibility = self.port.map_or(Visibility::Private, |_| visibility);
        rules::may_visit(standing.role, standing.relation, visibility, who.attach)
    }

    fn is_users(&self, user: Id<User>) -> bool {
        self.who.as_ref().is_some_and(|who| who.user == user)
    }
}

/// What changes in a seat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) relation: Relation,
    pub(super) role: Role,
    /// Of the port.
    pub(super) visibility: Visibility,
    /// When that ends by itself.
    pub(super) visible_until: Option<Timestamp>,
}

impl Default for Standing {
    /// Of somebody about whom nothing is known yet: nothing that is committed meanwhile is missed.
    fn default() -> Self {
        Self {
            relation: Relation::Own,
            role: Role::Owner,
            visibility: Visibility::Private,
            visible_until: None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    standing: Standing,
    over: Option<End>,
    /// Something was committed that may concern a seat of which it is not known whose it is.
    doubtful: bool,
}

/// One seat.
#[derive(Debug)]
pub(super) struct Seat {
    session: Id<Session>,
    /// Empty until it is known.
    right: OnceLock<Right>,
    state: Mutex<State>,
    waker: AtomicWaker,
}

impl Seat {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, end: End) {
        self.state().over.get_or_insert(end);
        self.waker.wake();
    }

    /// Whose it is.
    pub(super) fn right(&self) -> Option<&Right> {
        self.right.get()
    }

    /// Why it is over, if it is.
    pub(super) fn over(&self) -> Option<End> {
        self.state().over
    }

    /// When the right ends by itself: that of who is there because a port is shown for a while.
    pub(super) fn until(&self) -> Option<Timestamp> {
        let right = self.right.get()?;
        let standing = self.state().standing;
        standing.visible_until.filter(|_| !right.allows(&standing, Visibility::Private))
    }

    /// Resolves when the seat is over, with `None` when [`Seat::until`] is not what it was. One listener at a time.
    pub(super) fn poll_news(&self, until: Option<Timestamp>, cx: &Context<'_>) -> Poll<Option<End>> {
        self.waker.register(cx.waker());
        match self.over() {
            Some(end) => Poll::Ready(Some(end)),
            None if self.until() != until => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Judges anew after `change`.
    pub(super) fn judge(&self, change: impl FnOnce(&mut Standing)) {
        let mut state = self.state();
        change(&mut state.standing);
        let standing = state.standing;
        drop(state);
        if self.right.get().is_some_and(|right| !right.allows(&standing, standing.visibility)) {
            self.cut(End::Revoked);
        } else {
            self.waker.wake();
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

type Numbered = BTreeMap<u64, Arc<Seat>>;

/// All seats.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<(u64, Numbered)>,
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, (u64, Numbered)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat, before the records are read: what is committed meanwhile concerns it already.
    pub(super) fn take(self: &Arc<Self>, right: Right) -> Result<Place> {
        self.add(right.session, right.into())
    }

    /// Takes a seat for somebody who is not known yet; see [`Place::occupy`].
    pub(super) fn reserve(self: &Arc<Self>, session: Id<Session>) -> Result<Place> {
        self.add(session, OnceLock::new())
    }

    fn add(self: &Arc<Self>, session: Id<Session>, right: OnceLock<Right>) -> Result<Place> {
        let seat = Arc::new(Seat { session, right, state: Mutex::default(), waker: AtomicWaker::new() });
        let mut taken = self.taken();
        if taken.1.len() >= SEATS {
            return Err(Error::new(
                Kind::Unavailable,
                "too_many_connections",
                "The server carries as many connections as it can.",
                "Try again in a moment.",
            )
            .after(Duration::from_secs(5)));
        }
        taken.0 += 1;
        let number = taken.0;
        taken.1.insert(number, Arc::clone(&seat));
        Ok(Place { seats: Arc::clone(self), number, seat })
    }

    /// To be held while a change is committed.
    pub(super) fn under_way<'a>(&'a self, change: &'a ChangeSet) -> UnderWay<'a> {
        UnderWay { seats: self, change: Some(change) }
    }

    /// Ends what the commit took the right from.
    fn after(&self, change: &ChangeSet) {
        let taken = self.taken();
        if taken.1.is_empty() {
            return;
        }
        // Seats whose right is not known yet are not judged: who sits down there looks again.
        let each = |which: &dyn Fn(&Right) -> bool, act: &dyn Fn(&Seat)| {
            for seat in taken.1.values() {
                match seat.right.get() {
                    Some(right) if which(right) => act(seat),
                    Some(_) => {}
                    None => seat.state().doubtful = true,
                }
            }
        };
        let of_session = |session: Id<Session>, act: &dyn Fn(&Seat, &Right)| {
            for seat in taken.1.values().filter(|seat| seat.session == session) {
                match seat.right.get() {
                    Some(right) => act(seat, right),
                    None => seat.state().doubtful = true,
                }
            }
        };
        let of_sign_in =
            |id: Id<SignIn>| move |right: &Right| right.who.as_ref().is_some_and(|who| who.sign_in == id);
        let of_token =
            |id: Id<Token>| move |right: &Right| right.who.as_ref().is_some_and(|who| who.token == Some(id));
        let revoke = |seat: &Seat| seat.cut(End::Revoked);
        for put in &change.puts {
            match put {
                Put::SignIn(one) if one.revoked_at.is_some() => each(&of_sign_in(one.id), &revoke),
                Put::Token(one) if one.revoked_at.is_some() => each(&of_token(one.id), &revoke),
                Put::Membership(one) => {
                    each(&|right| right.workspace == one.workspace && right.is_users(one.user), &|seat| {
                        seat.judge(|standing| standing.role = one.role);
                    });
                }
                Put::Session(one) => of_session(one.id, &|seat, right| {
                    // While it stops, the programs inside end first, and those who are there see it.
                    let lives = matches!(one.state, SessionState::Running | SessionState::Stopping);
                    let relation =
                        right.who.as_ref().map_or(Relation::Foreign, |who| relation_to(one, who.user));
                    seat.settle(lives && one.epoch == right.epoch, relation);
                }),
                Put::Port(one) => of_session(one.session, &|seat, right| {
                    if right.port == Some(one.port) {
                        seat.judge(|standing| {
                            standing.visibility = one.visibility;
                            standing.visible_until = one.expires_at;
                        });
                    }
                }),
                _ => {}
            }
        }
        for key in &change.deletes {
            match *key {
                Key::SignIn(id) => each(&of_sign_in(id), &revoke),
                Key::Token(id) => each(&of_token(id), &revoke),
                Key::User(id) => each(&|right| right.is_users(id), &revoke),
                Key::Workspace(id) => each(&|right| right.workspace == id, &revoke),
                Key::Membership(workspace, user) => {
                    each(&|right| right.workspace == workspace && right.is_users(user), &revoke);
                }
                Key::Session(id) => of_session(id, &|seat, _| seat.cut(End::MachineEnded)),
                _ => {}
            }
        }
    }
}

/// A change that is being committed. Where it is dropped, whoever waited for the outcome is gone, say because a browser was
/// closed; then what the change takes away ends without being sure of it: who has the right still comes again.
pub(super) struct UnderWay<'a> {
    seats: &'a Seats,
    change: Option<&'a ChangeSet>,
}

impl UnderWay<'_> {
    /// The outcome is known.
    pub(super) fn ended(mut self, committed: bool) {
        self.change = self.change.filter(|_| committed);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(change) = self.change {
            self.seats.after(change);
        }
    }
}

/// A seat that is given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    seats: Arc<Seats>,
    number: u64,
    pub(super) seat: Arc<Seat>,
}

impl Place {
    /// Sits down by a right as it was read. `false` where something was committed since that may concern it: then it has
    /// to be read again.
    pub(super) fn occupy(&self, right: Right, standing: Standing) -> bool {
        // No commit is looked at meanwhile.
        let taken = self.seats.taken();
        if std::mem::take(&mut self.seat.state().doubtful) {
            return false;
        }
        let fresh = self.seat.right.set(right).is_ok();
        if fresh {
            self.seat.judge(|now| *now = standing);
        }
        drop(taken);
        fresh
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seats.taken().1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
