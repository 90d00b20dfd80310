//! The session's state machine.
//!
//! ```text
//! created ──start──▶ starting ──started──▶ running ──stop, idle──▶ stopping ──stopped──▶ sleeping ──start──▶ starting
//!                       │                     └──machine lost──▶ sleeping
//!                       └──start failed──▶ failed ──start──▶ starting         (any) ──delete──▶ deleting ──▶ gone
//! ```
//!
//! A transition names from, event and to; one that is not in [`apply`] is [`Illegal`]. Every waiting state has a
//! deadline: past it `starting` becomes `failed`, `stopping` is forced, `deleting` is tried again.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::record::{Failure, Goal, Session, SessionState, Snapshot, StopCause};
use burstflare_ports::time::Timestamp;

/// How long a start may take, restoring included.
pub const START_DEADLINE: Duration = Duration::from_secs(600);
/// How long a stop may take, its snapshot included.
pub const STOP_DEADLINE: Duration = Duration::from_secs(900);
/// Code of the failure of a restore that was not carried out, because the stop before it could not save the session.
pub const NOT_RESTORED: &str = "restore_not_done";
/// Code of the failure of a start whose snapshot is damaged or gone.
pub const SNAPSHOT_LOST: &str = "snapshot_corrupt";
/// After how long a delete is tried again.
pub const DELETE_RETRY: Duration = Duration::from_secs(30);

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants a running machine.
    Start,
    /// Somebody wants it to sleep.
    Stop,
    /// Nobody has done anything in it for its idle time, and its agent has let go of everything.
    Idle {
        /// The last use that was known when that was decided.
        since: Timestamp,
    },
    /// Somebody wants it to sleep now, without snapshot and orderly end.
    ForceStop,
    /// Somebody wants a machine of a new life.
    Restart,
    /// Somebody wants it gone.
    Delete,
    /// The machine answers.
    Started,
    /// The machine could not be started.
    StartFailed(Failure),
    /// The machine has ended, after this snapshot if one could be taken.
    Stopped {
        /// The snapshot.
        snapshot: Option<Id<Snapshot>>,
        /// What went wrong on the way, if anything did.
        failure: Option<Failure>,
    },
    /// The machine ended by itself.
    MachineLost(Failure),
}

impl Event {
    /// The event's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Idle { .. } => "idle",
            Self::ForceStop => "force-stop",
            Self::Restart => "restart",
            Self::Delete => "delete",
            Self::Started => "started",
            Self::StartFailed(_) => "start failed",
            Self::Stopped { .. } => "stopped",
            Self::MachineLost(_) => "machine lost",
        }
    }
}

/// An event that has no place in the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session that is {from:?} does not take `{event}`")]
pub struct Illegal {
    /// The state.
    pub from: SessionState,
    /// The event's name.
    pub event: &'static str,
}

/// Why a snapshot is not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRestored {
    /// The disk may hold what no snapshot shows, and nobody can save it any more.
    #[error("changes would be lost")]
    Unsaved,
    /// The session is on its way out.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}

/// Whether a transition changes how many machines the workspace runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// One more: the quota decides.
    Enters,
    /// One less.
    Leaves,
    /// As before.
    Same,
}

/// What an event leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The session's next record, its revision counted up.
    pub next: Session,
    /// What it does to the number of running machines.
    pub running: Running,
    /// Whether anything changed; if not, nothing is to be committed.
    pub changed: bool,
}

/// Whether the state counts as having a machine.
#[must_use]
pub const fn has_machine(state: SessionState) -> bool {
    matches!(state, SessionState::Starting | SessionState::Running | SessionState::Stopping)
}

/// Decides what an event makes of a session.
///
/// A start needs a fresh agent key: the caller puts it into the record that comes back when its epoch has grown.
///
/// # Errors
/// When the event has no place in the present state.
pub fn apply(session: &Session, event: &Event, now: Timestamp) -> Result<Transition, Illegal> {
    use SessionState::{Created, Deleting, Failed, Running as Runs, Sleeping, Starting, Stopping};
    let illegal = Illegal { from: session.state, event: event.name() };
    let mut next = session.clone();
    match (session.state, event) {
        (Deleting, Event::Delete) | (Starting, Event::Start) => {}
        // Written down, so that whoever is just about to put it to sleep sees it.
        (Runs, Event::Start) => next.wanted_at = Some(now),
        // A session that sleeps may still be about to start, after a restart say: the stop takes that wish back.
        (Created | Sleeping | Failed, Event::Stop | Event::ForceStop) => next.goal = Goal::Sleep,

        (Created | Sleeping | Failed, Event::Start | Event::Restart) => begin_start(&mut next, now),
        // A start that comes during a stop waits its turn: the actor begins it when the stop is done.
        (Stopping, Event::Start | Event::Restart) => next.goal = Goal::Run,

        (Runs, Event::Stop) => begin_stop(&mut next, Goal::Sleep, now),
        (Runs, Event::Idle { since }) => {
            // Its machine has let go of everything and is of no more use. Who asked for one meanwhile gets the next.
            let wanted = next.wanted_at.is_some_and(|at| at > *since);
            begin_stop(&mut next, if wanted { Goal::Run } else { Goal::Sleep }, now);
            next.stopped_by = Some(StopCause::Idle);
        }
        (Runs, Event::Restart) => begin_stop(&mut next, Goal::Run, now),
        // Nobody has worked on a machine that is still being started, and its disk may not be restored yet: a
        // snapshot of it could replace a whole one by half of it. It is ended as it is.
        (Starting, Event::Stop | Event::Restart) => {
            let goal = if *event == Event::Restart { Goal::Run } else { Goal::Sleep };
            begin_stop(&mut next, goal, now);
            next.force = true;
        }
        (Starting | Runs, Event::ForceStop) => {
            begin_stop(&mut next, Goal::Sleep, now);
            next.force = true;
        }
        (Stopping, Event::Stop) => next.goal = Goal::Sleep,
        (Stopping, Event::ForceStop) => {
            next.goal = Goal::Sleep;
            next.force = true;
        }

        (Created | Starting | Runs | Stopping | Sleeping | Failed, Event::Delete) => {
            enter(&mut next, Deleting, now);
            next.goal = Goal::Delete;
            next.deadline = Some(now.after(DELETE_RETRY));
        }

        (Starting, Event::Started) => {
            enter(&mut next, Runs, now);
            next.failure = None;
            next.unsaved = true;
            // From here on its files come from what was restored, whatever newer ones there are.
            next.snapshot = next.restore.take().or(next.snapshot);
        }
        (Starting, Event::StartFailed(failure)) => {
            enter(&mut next, Failed, now);
            next.goal = Goal::Sleep;
            next.failure = Some(failure.clone());
            // What cannot be restored never will be: the next start continues on the disk that was kept.
            if failure.code == SNAPSHOT_LOST && next.restore.take().is_some() {
                next.unsaved = true;
            }
        }
        (Stopping, Event::Stopped { snapshot, failure }) => {
            enter(&mut next, Sleeping, now);
            next.snapshot = snapshot.or(session.snapshot);
            next.failure.clone_from(failure);
            next.force = false;
            if snapshot.is_some() {
                (next.unsaved, next.saved_at) = (false, Some(now));
            } else if next.unsaved && next.restore.take().is_some() {
                // What was to be restored would take the place of what could not be saved. It does not start with
                // other files than those that were asked for, either.
                next.goal = Goal::Sleep;
                next.failure = Some(not_restored(failure.as_ref()));
            }
        }
        (Runs, Event::MachineLost(failure)) => {
            enter(&mut next, Sleeping, now);
            next.goal = Goal::Sleep;
            next.failure = Some(failure.clone());
            next.stopped_by = Some(StopCause::Machine);
        }
        _ => return Err(illegal),
    }
    let running = match (has_machine(session.state), has_machine(next.state)) {
        (false, true) => Running::Enters,
        (true, false) => Running::Leaves,
        _ => Running::Same,
    };
    let changed = next != *session;
    if changed {
        next.revision += 1;
    }
    Ok(Transition { next, running, changed })
}

/// Decides what a wish to restore makes of a session: it starts on a new disk, behind a stop where it has a machine. What
/// a machine at work holds is snapshotted by that stop; where nothing can do that any more, it has to be allowed
/// to be lost (`discard`).
///
/// # Errors
/// [`NotRestored`].
pub fn restore(
    session: &Session,
    snapshot: Id<Snapshot>,
    discard: bool,
    now: Timestamp,
) -> Result<Transition, NotRestored> {
    let saves = match session.state {
        SessionState::Running => true,
        SessionState::Stopping => !session.force,
        _ => false,
    };
    if session.unsaved && !saves && !discard {
        return Err(NotRestored::Unsaved);
    }
    let mut wished = Session { restore: Some(snapshot), ..session.clone() };
    if discard && !saves {
        wished.unsaved = false;
    }
    let mut step = apply(&wished, &Event::Restart, now)?;
    step.changed = step.next != *session;
    step.next.revision = session.revision + u64::from(step.changed);
    Ok(step)
}

fn not_restored(why: Option<&Failure>) -> Failure {
    let why = why.map_or("Its machine had ended without a snapshot.", |why| &why.message);
    Failure {
        code: NOT_RESTORED.to_owned(),
        message: format!(
            "The snapshot was not restored: the session's changes could not be saved before. {why}"
        ),
        hint: "Start it and stop it to save them and restore again, or restore with `--discard`.".to_owned(),
    }
}

fn begin_start(next: &mut Session, now: Timestamp) {
    enter(next, SessionState::Starting, now);
    next.wanted_at = Some(now);
    next.goal = Goal::Run;
    next.force = false;
    next.failure = None;
    next.stopped_by = None;
    next.epoch += 1;
    // A new disk has a new name. Where the runtime finds unasked that it needs one, the actor names it.
    if next.restore.is_some() || next.disk == 0 {
        next.disk = next.epoch;
    }
    next.deadline = Some(now.after(START_DEADLINE));
}

fn begin_stop(next: &mut Session, goal: Goal, now: Timestamp) {
    enter(next, SessionState::Stopping, now);
    next.goal = goal;
    next.stopped_by = Some(StopCause::Person);
    next.deadline = Some(now.after(STOP_DEADLINE));
}

fn enter(next: &mut Session, state: SessionState, now: Timestamp) {
    next.state = state;
    next.changed_at = now;
    next.deadline = None;
}

/// What the actor has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing, until it is woken.
    Rest,
    /// Bring the machine up.
    BringUp,
    /// The start took too long: give it up.
    GiveUpStart,
    /// Snapshot and end the machine.
    TakeDown,
    /// End the machine at once: a stop took too long or is forced.
    Kill,
    /// Begin the start that waited for the stop.
    BeginStart,
    /// Remove machine, disk, snapshots and record.
    Remove,
    /// See whether the machine still lives.
    Watch,
}

/// Decides what is next, from the record alone.
#[must_use]
pub fn work(session: &Session, now: Timestamp) -> Work {
    let late = session.deadline.is_some_and(|deadline| deadline <= now);
    match session.state {
        SessionState::Starting if late => Work::GiveUpStart,
        SessionState::Starting => Work::BringUp,
        SessionState::Stopping if late || session.force => Work::Kill,
        SessionState::Stopping => Work::TakeDown,
        SessionState::Sleeping if session.goal == Goal::Run => Work::BeginStart,
        SessionState::Deleting => Work::Remove,
        SessionState::Running => Work::Watch,
        SessionState::Created | SessionState::Sleeping | SessionState::Failed => Work::Rest,
    }
}
