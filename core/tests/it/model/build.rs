//! The build machine against a model of four numbers.

use std::time::Duration;

use burstflare_core::domain::build::{ATTEMPTS, Event, FIRST_STEP, apply, back_off, is_active};
use burstflare_ports::record::{Build, BuildState, VersionState};
use proptest::prelude::*;

use super::record::{at, build, failure};

#[derive(Debug, Clone, Copy)]
enum Input {
    Prepare,
    Step,
    Succeed,
    Fail,
    Lost,
    Cancel,
    Retry,
}

const INPUTS: [Input; 7] =
    [Input::Prepare, Input::Step, Input::Succeed, Input::Fail, Input::Lost, Input::Cancel, Input::Retry];

/// What is known of a build without its record: where it is, which attempt, and how many of this asking were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    state: BuildState,
    attempt: u32,
    lost: u32,
    lives: u64,
    /// The step under way is the first one.
    first: bool,
}

impl Model {
    /// The next one; `None` where the input has no place.
    fn next(self, input: Input) -> Option<Self> {
        let open = matches!(self.state, BuildState::Queued | BuildState::Running);
        Some(match input {
            // Where the first step begins again, so does the machine.
            Input::Prepare if open => Self {
                state: BuildState::Running,
                lives: self.lives + u64::from(self.first),
                first: true,
                ..self
            },
            Input::Step if open => Self { state: BuildState::Running, first: false, ..self },
            Input::Succeed if self.state == BuildState::Running => {
                Self { state: BuildState::Succeeded, ..self }
            }
            Input::Fail if open => Self { state: BuildState::Failed, ..self },
            Input::Cancel if open => Self { state: BuildState::Cancelled, ..self },
            Input::Lost if open && self.lost == 2 => Self { state: BuildState::Failed, ..self },
            Input::Lost if open => Self {
                state: BuildState::Queued,
                attempt: self.attempt + 1,
                lost: self.lost + 1,
                lives: self.lives + 1,
                first: false,
            },
            Input::Retry if matches!(self.state, BuildState::Failed | BuildState::Cancelled) => Self {
                state: BuildState::Queued,
                // Attempts come in blocks of three: a retry opens the next block.
                attempt: self.attempt - self.lost + 3,
                lost: 0,
                lives: self.lives + 1,
                first: false,
            },
            _ => return None,
        })
    }
}

fn event(input: Input) -> Event {
    match input {
        Input::Prepare => Event::Step { name: FIRST_STEP.to_owned(), lease: Duration::from_secs(100) },
        Input::Step => Event::Step { name: "setup-1".to_owned(), lease: Duration::from_secs(100) },
        Input::Succeed => Event::Succeed,
        Input::Fail => Event::Fail(failure("setup_failed")),
        Input::Lost => Event::Lost(failure("machine_lost")),
        Input::Cancel => Event::Cancel,
        Input::Retry => Event::Retry,
    }
}

fn check(before: &Build, model: Model, input: Input, now: i64, counted: &mut i64) -> Option<(Build, Model)> {
    let expected = model.next(input);
    let step = apply(before, &event(input), at(now));
    assert_eq!(step.is_ok(), expected.is_some(), "{model:?} and {input:?}");
    let (Ok(step), Some(expected)) = (step, expected) else { return None };
    let next = step.next;
    let first = is_active(next.state) && next.step.as_deref() == Some(FIRST_STEP);
    let expected = Model { first: expected.first && is_active(next.state), ..expected };
    let seen =
        Model { state: next.state, attempt: next.attempt, lost: expected.lost, lives: next.epoch, first };
    assert_eq!(seen, expected, "{model:?} and {input:?}");
    assert_eq!(next.revision, before.revision + 1);
    // Whoever waits or works has an end; what is over has none, and no key.
    assert_eq!(next.deadline.is_some(), is_active(next.state));
    assert_eq!(next.finished_at.is_some(), !is_active(next.state));
    assert!(is_active(next.state) || next.sealed_key.is_none());
    assert!(next.attempt == before.attempt || next.sealed_key.is_none(), "a new attempt has a new key");
    assert!(next.epoch == before.epoch || next.sealed_key.is_none(), "a new life has a new key");
    // A new attempt is asked for exactly when one begins to wait.
    let asks = next.attempt != before.attempt;
    assert_eq!(step.run_at.is_some(), asks);
    if let (Some(run_at), Some(deadline)) = (step.run_at, next.deadline) {
        assert!(run_at >= at(now) && deadline > run_at);
    }
    assert_eq!(step.active, (is_active(before.state), is_active(next.state)));
    *counted += i64::from(step.active.1) - i64::from(step.active.0);
    assert_eq!(*counted, i64::from(is_active(next.state)));
    let version = match next.state {
        BuildState::Queued | BuildState::Running => VersionState::Building,
        BuildState::Succeeded => VersionState::Ready,
        BuildState::Failed | BuildState::Cancelled => VersionState::Failed,
    };
    assert_eq!(step.version, version);
    Some((next, expected))
}

#[test]
fn the_third_loss_is_the_last() {
    let mut record = build();
    for attempt in 1..=ATTEMPTS {
        assert_eq!(record.attempt, attempt);
        let lost = Event::Lost(failure("machine_lost"));
        let step = apply(&record, &lost, at(0)).expect("legal");
        if attempt < ATTEMPTS {
            assert_eq!(step.run_at, Some(at(0).after(back_off(attempt))));
        }
        record = step.next;
    }
    assert_eq!(record.state, BuildState::Failed);
    assert_eq!(record.failure.map(|failure| failure.code).as_deref(), Some("dead_lettered"));
}

#[test]
fn back_off_grows() {
    let waits: Vec<u64> = (1..=ATTEMPTS).map(|attempt| back_off(attempt).as_secs()).collect();
    assert_eq!(waits, [2, 8, 32]);
}

proptest! {
    #[test]
    fn any_history_follows_the_model(history in prop::collection::vec(0..INPUTS.len(), 0..80)) {
        let mut record = build();
        let mut model = Model { state: BuildState::Queued, attempt: 1, lost: 0, lives: 1, first: false };
        let mut counted = 1;
        for (now, index) in history.into_iter().enumerate() {
            let now = i64::try_from(now).unwrap();
            if let Some(next) = check(&record, model, INPUTS[index], now, &mut counted) {
                (record, model) = next;
            }
        }
        // Left alone by its workers, any build ends: every deadline that passes is a loss.
        for _ in 0..ATTEMPTS {
            if let Some(next) = check(&record, model, Input::Lost, 1000, &mut counted) {
                (record, model) = next;
            }
        }
        prop_assert!(!is_active(record.state));
    }
}
