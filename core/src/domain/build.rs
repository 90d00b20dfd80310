//! The build's state machine.
//!
//! ```text
//! queued ──begin──▶ running(step) ──succeed──▶ succeeded
//!    ▲                 │  ├─fail──▶ failed ──retry──▶ queued
//!    └──lost (again)───┘  └─lost (third time)──▶ failed (dead-lettered)        queued, running ──cancel──▶ cancelled
//! ```
//!
//! A setup step that fails is the user's and final; a machine, store or server that fails is ours and gets up to
//! [`ATTEMPTS`] attempts with back-off. Each attempt has its own machine and log.

use std::time::Duration;

use burstflare_ports::record::{Build, BuildState, Failure, VersionState};
use burstflare_ports::time::Timestamp;

/// Attempts before a build is dead-lettered.
pub const ATTEMPTS: u32 = 3;
/// How long a queued build may wait for a worker before reconcile asks again.
pub const QUEUE_DEADLINE: Duration = Duration::from_secs(60);
/// How long a step that runs no user command may take.
pub const STEP_DEADLINE: Duration = Duration::from_secs(900);

/// The step that begins with a machine of its own.
pub const FIRST_STEP: &str = "prepare";

/// What happens to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker begins a step; its lease holds for so long.
    Step {
        /// The step's name.
        name: String,
        /// The lease.
        lease: Duration,
    },
    /// The layer is recorded.
    Succeed,
    /// It cannot succeed, and trying again would not help.
    Fail(Failure),
    /// The attempt was cut off by something that is not the user's.
    Lost(Failure),
    /// Somebody ended it.
    Cancel,
    /// Somebody wants it tried again.
    Retry,
}

/// An event that has no place in the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a build that is {from:?} does not take that")]
pub struct Illegal {
    /// The state.
    pub from: BuildState,
}

/// What an event leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The build's next record, its revision counted up.
    pub next: Build,
    /// The version's next state.
    pub version: VersionState,
    /// Whether the next attempt has to be started, and when.
    pub run_at: Option<Timestamp>,
    /// Whether it counts among the builds that wait or run: before and after.
    pub active: (bool, bool),
}

/// Whether a build waits or runs.
#[must_use]
pub const fn is_active(state: BuildState) -> bool {
    matches!(state, BuildState::Queued | BuildState::Running)
}

/// How many tries this attempt is since the build was asked for or retried.
const fn tries(attempt: u32) -> u32 {
    (attempt.saturating_sub(1)) % ATTEMPTS + 1
}

/// The wait before an attempt: 2 s, 8 s, …
#[must_use]
pub fn back_off(attempt: u32) -> Duration {
    Duration::from_secs(2 << (2 * attempt.clamp(1, 5) - 2))
}

/// Decides what an event makes of a build.
///
/// # Errors
/// When the event has no place in the present state.
pub fn apply(build: &Build, event: &Event, now: Timestamp) -> Result<Transition, Illegal> {
    let mut next = build.clone();
    let mut run_at = None;
    match (build.state, event) {
        (BuildState::Queued | BuildState::Running, Event::Step { name, lease }) => {
            next.state = BuildState::Running;
            // The first step begins on a clean machine. Where it begins again, what its first try asked for may still
            // be on its way: it belongs to an earlier life.
            if name == FIRST_STEP && build.step.as_deref() == Some(FIRST_STEP) {
                next.epoch += 1;
                next.sealed_key = None;
            }
            next.step = Some(name.clone());
            next.started_at = build.started_at.or(Some(now));
            next.deadline = Some(now.after(*lease));
        }
        (BuildState::Running, Event::Succeed) => {
            finish(&mut next, BuildState::Succeeded, now);
        }
        (BuildState::Queued | BuildState::Running, Event::Fail(failure)) => {
            finish(&mut next, BuildState::Failed, now);
            next.failure = Some(failure.clone());
        }
        (BuildState::Queued | BuildState::Running, Event::Lost(failure))
            if tries(build.attempt) >= ATTEMPTS =>
        {
            finish(&mut next, BuildState::Failed, now);
            next.failure = Some(Failure {
                code: "dead_lettered".to_owned(),
                message: format!("The build was cut off {ATTEMPTS} times. Last: {}", failure.message),
                hint: "Look at the server's log, then run `flare build retry`.".to_owned(),
            });
        }
        (BuildState::Queued | BuildState::Running, Event::Lost(failure)) => {
            let at = now.after(back_off(tries(build.attempt)));
            requeue(&mut next, at);
            next.failure = Some(failure.clone());
            run_at = Some(at);
        }
        (BuildState::Queued | BuildState::Running, Event::Cancel) => {
            finish(&mut next, BuildState::Cancelled, now);
        }
        (BuildState::Failed | BuildState::Cancelled, Event::Retry) => {
            // Attempts are numbered on, so that the logs of earlier ones stay; the count of tries begins anew.
            next.attempt = build.attempt.next_multiple_of(ATTEMPTS);
            requeue(&mut next, now);
            next.failure = None;
            next.finished_at = None;
            run_at = Some(now);
        }
        _ => return Err(Illegal { from: build.state }),
    }
    next.revision += 1;
    let version = match next.state {
        BuildState::Queued | BuildState::Running => VersionState::Building,
        BuildState::Succeeded => VersionState::Ready,
        BuildState::Failed | BuildState::Cancelled => VersionState::Failed,
    };
    let active = (is_active(build.state), is_active(next.state));
    Ok(Transition { next, version, run_at, active })
}

fn requeue(next: &mut Build, at: Timestamp) {
    next.state = BuildState::Queued;
    next.step = None;
    next.attempt += 1;
    next.epoch += 1;
    next.sealed_key = None;
    next.deadline = Some(at.after(QUEUE_DEADLINE));
}

fn finish(next: &mut Build, state: BuildState, now: Timestamp) {
    next.state = state;
    next.deadline = None;
    next.sealed_key = None;
    next.finished_at = Some(now);
}
