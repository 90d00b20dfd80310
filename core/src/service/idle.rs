//! Idle sessions go to sleep. Their agents judge, here is asked: as rarely as possible, and never guessed.
//!
//! Nothing is written down about a session that runs: what is known of its last activity lives in this process, and a
//! process that begins anew asks the agent. An agent that does not answer, or is too old to judge, is never idle.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Event as Notice, Session, SessionState, Version};
use burstflare_ports::store::{ChangeSet, CommitError, Family};
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{Activity, Busy, Reason};
use serde_json::json;

use super::{Caller, ControlPlane};
use crate::domain::idle::{self as rules, Known, Next};

/// For an agent that is asked because somebody looks at the session.
const LOOK: Duration = Duration::from_millis(500);
/// For an agent that is asked because it is time.
const ASK: Duration = Duration::from_secs(5);
/// After an agent did not answer.
const AGAIN: Duration = Duration::from_secs(30);
/// Between TERM and KILL of what still runs in an idle machine.
const GRACE: Duration = Duration::from_secs(5);

/// How long a running session has been idle, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// Its last activity.
    pub since: Timestamp,
    /// What that was.
    pub reason: Reason,
    /// What holds it awake now.
    pub busy: Vec<Busy>,
    /// Idle time before it sleeps; `None` is never.
    pub limit: Option<Duration>,
    /// When it sleeps if nothing happens.
    pub sleeps_at: Option<Timestamp>,
}

/// What this process knows of the sessions whose actors it hosts.
#[derive(Default)]
pub(super) struct IdleMemory {
    sessions: Mutex<HashMap<Id<Session>, Remembered>>,
}

#[derive(Clone, Copy)]
struct Remembered {
    /// Of the record that `limit` was read from.
    revision: u64,
    epoch: u64,
    limit: Option<Duration>,
    known: Known,
    /// The last activity's, as the agent named it.
    mark: Option<u64>,
}

impl IdleMemory {
    fn all(&self) -> MutexGuard<'_, HashMap<Id<Session>, Remembered>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, session: &Session) -> Option<Remembered> {
        self.all().get(&session.id).filter(|found| found.epoch == session.epoch).copied()
    }

    fn remember(&self, session: Id<Session>, what: Remembered) {
        self.all().insert(session, what);
    }

    /// It runs no more: nothing is to be known of it.
    pub(super) fn forget(&self, session: Id<Session>) {
        self.all().remove(&session);
    }
}

/// What a look at a running session found.
pub(super) enum IdleLook {
    /// Its machine is idle since this moment and has let go of everything: it is to sleep now.
    Sleep {
        /// Its last use.
        since: Timestamp,
    },
    /// It stays awake; look again at this moment.
    Awake(Timestamp),
}

impl ControlPlane {
    /// Asks the agent where it is time to, and has it end an idle machine's processes.
    pub(super) async fn look_for_idleness(&self, session: &Session) -> PortResult<IdleLook> {
        let mut found = self.remembered(session).await?;
        let Some(limit) = found.limit else { return Ok(IdleLook::Awake(self.now().after(AGAIN))) };
        if let Next::Wait(until) = rules::next(found.known, limit, self.now()) {
            return Ok(IdleLook::Awake(until));
        }
        let target = self.target(session).map_err(super::into_port)?;
        let activity = match self.agent_activity(&target, ASK).await {
            Ok(activity) => activity,
            Err(error) => {
                tracing::debug!(session = %session.id, %error, "nobody says whether it is idle");
                return Ok(IdleLook::Awake(self.now().after(AGAIN)));
            }
        };
        // Its word counts in both directions: our clock may have jumped since we asked last.
        let announced = found.known.announced && found.mark == Some(activity.mark);
        let active = self.last_active(&activity);
        found.known = Known { since: used(session, active), announced };
        found.mark = Some(activity.mark);
        let idle = self.now().since(found.known.since);
        if activity.ending || idle >= limit {
            match self.agent_quiesce_idle(&target, GRACE, activity.mark).await {
                // Where it was ending already, whoever asked for it since then did so in vain.
                Ok(()) if activity.ending => return Ok(IdleLook::Sleep { since: active }),
                Ok(()) => return Ok(IdleLook::Sleep { since: found.known.since }),
                // Somebody came in between, and wins.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    found.known = Known { since: self.now(), announced: false };
                    found.mark = None;
                }
                Err(error) => {
                    tracing::warn!(session = %session.id, %error, "an idle machine did not let go");
                    return Ok(IdleLook::Awake(self.now().after(AGAIN)));
                }
            }
        } else if !found.known.announced && idle >= limit.saturating_sub(rules::notice(limit)) {
            self.announce(session, found.known.since.after(limit)).await?;
            found.known.announced = true;
        }
        self.inner.idle.remember(session.id, found);
        Ok(IdleLook::Awake(match rules::next(found.known, limit, self.now()) {
            Next::Wait(until) => until,
            // Its clock and ours differ a little.
            Next::Ask => self.now().after(Duration::from_secs(1)),
        }))
    }

    /// How idle a session is, for whoever looks at it: asks its agent and writes nothing. `None` where it does not run
    /// or its agent does not answer at once.
    pub(super) async fn idle_of(
        &self,
        caller: &Caller,
        session: &Session,
        version: Option<&Version>,
    ) -> Option<Idle> {
        if session.state != SessionState::Running {
            return None;
        }
        let target = self.target(session).ok()?;
        let activity = self.agent_activity(&target, LOOK).await.ok()?;
        let template = version?.spec.as_ref()?.sleep_after_s;
        let limit = rules::limit(session.sleep_after_s, template, &caller.plan());
        let since = used(session, self.last_active(&activity));
        Some(Idle {
            since,
            reason: activity.reason,
            busy: activity.busy,
            limit,
            sleeps_at: limit.map(|limit| since.after(limit)),
        })
    }

    /// What this process knows of it. Of a session that it has never asked about it knows that it was active when it
    /// began to run.
    async fn remembered(&self, session: &Session) -> PortResult<Remembered> {
        let found = self.inner.idle.of(session);
        if let Some(found) = found.filter(|found| found.revision == session.revision) {
            return Ok(found);
        }
        let version = self.store().version(session.workspace, session.version).await?;
        let template = version.and_then(|version| version.spec).and_then(|spec| spec.sleep_after_s);
        let limit = rules::limit(session.sleep_after_s, template, &self.session_plan(session).await?);
        let mut known =
            found.map_or(Known { since: session.changed_at, announced: false }, |found| found.known);
        known.since = used(session, known.since);
        let fresh = Remembered {
            revision: session.revision,
            epoch: session.epoch,
            limit,
            known,
            mark: found.and_then(|found| found.mark),
        };
        self.inner.idle.remember(session.id, fresh);
        Ok(fresh)
    }

    pub(super) fn last_active(&self, activity: &Activity) -> Timestamp {
        self.now().before(Duration::from_millis(activity.last_active_ms_ago))
    }

    /// Tells whoever listens that a session sleeps soon.
    async fn announce(&self, session: &Session, sleeps_at: Timestamp) -> PortResult<()> {
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.events.push(Notice {
            kind: "session.sleeping_soon".to_owned(),
            subject: session.id.to_string(),
            data: json!({ "name": session.name, "sleeps_at": sleeps_at }),
            at: self.now(),
        });
        match self.commit(change).await {
            Ok(()) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Failed(error)) => Err(error),
        }
    }
}

/// When it was used last: asking for its machine is use, too, which the agent does not see.
fn used(session: &Session, active: Timestamp) -> Timestamp {
    session.wanted_at.map_or(active, |wanted| wanted.max(active))
}
