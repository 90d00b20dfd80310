//! When a session that nobody uses goes to sleep. What counts as use is the agent's to judge; here is only arithmetic.

use std::time::Duration;

use burstflare_ports::time::Timestamp;

use super::plan::Plan;

/// The longest time before its sleep at which a session is announced to be about to sleep.
const LONGEST_NOTICE: Duration = Duration::from_secs(300);

/// Idle time before sleep: the session's own, else its template's, and never more than the plan allows. `None` is never.
///
/// Both are in seconds; of the session's own 0 is never, of the template's none is.
#[must_use]
pub fn limit(own: Option<u64>, template: Option<u64>, plan: &Plan) -> Option<Duration> {
    let wanted = match own {
        Some(0) => None,
        Some(seconds) => Some(seconds),
        None => template,
    };
    match (wanted.map(Duration::from_secs), plan.idle) {
        (Some(wanted), Some(most)) => Some(wanted.min(most)),
        (wanted, most) => wanted.or(most),
    }
}

/// So long before its sleep a session is announced to be about to sleep.
#[must_use]
pub fn notice(limit: Duration) -> Duration {
    (limit / 4).min(LONGEST_NOTICE)
}

/// What is known without asking the agent: nothing that happens makes a session sleep earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// It was active at this moment, and maybe later.
    pub since: Timestamp,
    /// Whether it was announced that it is about to sleep, since then.
    pub announced: bool,
}

/// What to do about a session that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing before this moment.
    Wait(Timestamp),
    /// Ask the agent.
    Ask,
}

/// Decides from what is known whether it is time to ask the agent.
#[must_use]
pub fn next(known: Known, limit: Duration, now: Timestamp) -> Next {
    let sleeps_at = known.since.after(limit);
    let due = if known.announced { sleeps_at } else { sleeps_at.before(notice(limit)) };
    if due <= now { Next::Ask } else { Next::Wait(due) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{LOCAL, TINY};
    use proptest::prelude::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn the_session_decides_before_its_template_and_the_plan_bounds_both() {
        let most = TINY.idle.expect("a bound");
        let seconds = Duration::from_secs;
        for (own, template, local, tiny) in [
            (None, None, None, Some(most)),
            (None, Some(60), Some(seconds(60)), Some(seconds(60))),
            (Some(90), Some(60), Some(seconds(90)), Some(seconds(90))),
            (Some(90), None, Some(seconds(90)), Some(seconds(90))),
            (Some(0), Some(60), None, Some(most)),
            (Some(1 << 40), None, Some(seconds(1 << 40)), Some(most)),
        ] {
            assert_eq!(limit(own, template, &LOCAL), local, "{own:?} {template:?}");
            assert_eq!(limit(own, template, &TINY), tiny, "{own:?} {template:?}");
        }
    }

    #[test]
    fn it_asks_to_announce_and_again_to_put_to_sleep() {
        let limit = Duration::from_secs(1800);
        let known = Known { since: at(0), announced: false };
        assert_eq!(next(known, limit, at(0)), Next::Wait(at(1500)));
        assert_eq!(next(known, limit, at(1500)), Next::Ask);
        let announced = Known { announced: true, ..known };
        assert_eq!(next(announced, limit, at(1500)), Next::Wait(at(1800)));
        assert_eq!(next(announced, limit, at(1800)), Next::Ask);
        assert_eq!(notice(Duration::from_secs(40)), Duration::from_secs(10));
    }

    proptest! {
        #[test]
        fn nobody_is_asked_too_early_and_everybody_in_time(
            since in 0i64..1_000_000, limit in 1u64..1_000_000, now in 0i64..3_000_000, announced: bool,
        ) {
            let span = Duration::from_secs(limit);
            let known = Known { since: at(since), announced };
            match next(known, span, at(now)) {
                Next::Ask => prop_assert!(at(now) >= at(since).after(span).before(notice(span))),
                Next::Wait(until) => {
                    prop_assert!(until > at(now));
                    prop_assert!(until <= at(since).after(span));
                }
            }
        }
    }
}
