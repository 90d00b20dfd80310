//! Promotions and rollbacks against a stack.

use burstflare_core::domain::release::{By, Promotion, Refusal, promote, roll_back};
use burstflare_ports::record::{Release, ReleaseCause, Template, VersionState};
use proptest::prelude::*;

use super::record::{at, id, template, version};

/// A template's history as the store would keep it.
#[derive(Default)]
struct History {
    releases: Vec<Release>,
}

impl History {
    fn by(&self) -> By {
        let next = u8::try_from(self.releases.len() + 1).unwrap();
        By { id: id(next), user: id(6), at: at(i64::from(next)) }
    }

    fn current(&self) -> Option<&Release> {
        self.releases.last()
    }

    /// Whether a new release was made.
    fn promote(&mut self, number: u8) -> bool {
        let version = version(number, VersionState::Ready);
        let last = self.releases.len() as u64;
        match promote(&template(), &version, self.current(), last, self.by()).expect("ready") {
            Promotion::Unchanged => false,
            Promotion::New(release) => {
                assert_eq!(release.cause, ReleaseCause::Promote);
                self.releases.push(*release);
                true
            }
        }
    }

    fn roll_back(&mut self) -> Result<(), Refusal> {
        let previous = self.current().and_then(|release| release.previous);
        let previous = previous.and_then(|id| self.releases.iter().find(|release| release.id == id));
        let release = roll_back(&template(), previous, self.releases.len() as u64, self.by())?;
        assert_eq!(release.cause, ReleaseCause::Rollback);
        self.releases.push(release);
        Ok(())
    }

    fn shows(&self) -> Option<u8> {
        let current = self.current()?;
        (0..=255).find(|number| current.version == id(*number))
    }
}

#[test]
fn after_1_2_3_rollbacks_give_2_then_1_then_nothing() {
    let mut history = History::default();
    for number in [1, 2, 3] {
        assert!(history.promote(number));
    }
    assert_eq!((history.roll_back(), history.shows()), (Ok(()), Some(2)));
    assert_eq!((history.roll_back(), history.shows()), (Ok(()), Some(1)));
    assert_eq!((history.roll_back(), history.shows()), (Err(Refusal::NothingBefore), Some(1)));
    assert_eq!(history.releases.iter().map(|release| release.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_promotion_after_a_rollback_goes_on_from_there() {
    let mut history = History::default();
    for number in [1, 2, 3] {
        history.promote(number);
    }
    history.roll_back().expect("back to 2");
    assert!(history.promote(4));
    history.roll_back().expect("back to 2: 3 was left behind");
    assert_eq!(history.shows(), Some(2));
    history.roll_back().expect("back to 1");
    assert_eq!(history.roll_back(), Err(Refusal::NothingBefore));
}

#[test]
fn what_is_not_ready_or_archived_is_refused() {
    let refusals = [
        (VersionState::Draft, Refusal::Draft),
        (VersionState::Building, Refusal::Building),
        (VersionState::Failed, Refusal::FailedBuild),
    ];
    let by = History::default().by();
    for (state, refusal) in refusals {
        assert_eq!(promote(&template(), &version(1, state), None, 0, by), Err(refusal));
    }
    let archived = Template { archived_at: Some(at(1)), ..template() };
    let ready = version(1, VersionState::Ready);
    assert_eq!(promote(&archived, &ready, None, 0, by), Err(Refusal::Archived));
    let mut history = History::default();
    history.promote(1);
    assert_eq!(roll_back(&archived, history.current(), 1, by), Err(Refusal::Archived));
}

proptest! {
    /// `None` rolls back, `Some(n)` promotes version n.
    #[test]
    fn any_history_is_a_stack(acts in prop::collection::vec(prop::option::weighted(0.6, 1_u8..5), 0..60)) {
        let mut history = History::default();
        let mut stack: Vec<u8> = Vec::new();
        for act in acts {
            let before = history.releases.clone();
            match act {
                Some(number) => {
                    let new = stack.last() != Some(&number);
                    prop_assert_eq!(history.promote(number), new);
                    if new {
                        stack.push(number);
                    }
                }
                None if stack.len() > 1 => {
                    stack.pop();
                    prop_assert_eq!(history.roll_back(), Ok(()));
                }
                None => prop_assert_eq!(history.roll_back(), Err(Refusal::NothingBefore)),
            }
            prop_assert_eq!(history.shows(), stack.last().copied());
            // What was, stays as it was.
            prop_assert_eq!(&history.releases[..before.len()], &before[..]);
            let numbers = history.releases.iter().map(|release| release.number);
            prop_assert!(numbers.eq(1..=history.releases.len() as u64));
        }
    }
}
