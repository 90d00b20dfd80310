//! The session machine against a table of what each event makes of each state.

use burstflare_core::domain::session::{Event, NOT_RESTORED, Running, Work, apply, has_machine, work};
use burstflare_ports::record::{Goal, Session, SessionState, StopCause};
use proptest::prelude::*;

use super::record::{at, failure, id, session};

/// An event without its details; `s`tart, s`t`op, `f`orce-stop, `r`estart, `d`elete, `u`p, `x` start failed,
/// `z` stopped, `l`ost, `i`dle.
const EVENTS: [char; 10] = ['s', 't', 'f', 'r', 'd', 'u', 'x', 'z', 'l', 'i'];

/// A row a state, a column an event as above. A letter is the state that comes: `C`reated, `U`p is starting, `R`unning,
/// `D`own is stopping, `S`leeping, `F`ailed, `X` deleting; `.` is illegal.
const TABLE: [(SessionState, &str); 7] = [
    (SessionState::Created, "UCCUX....."),
    (SessionState::Starting, "UDDDXRF..."),
    (SessionState::Running, "RDDDX...SD"),
    (SessionState::Stopping, "DDDDX..S.."),
    (SessionState::Sleeping, "USSUX....."),
    (SessionState::Failed, "UFFUX....."),
    (SessionState::Deleting, "....X....."),
];

fn letter(state: SessionState) -> char {
    match state {
        SessionState::Created => 'C',
        SessionState::Starting => 'U',
        SessionState::Running => 'R',
        SessionState::Stopping => 'D',
        SessionState::Sleeping => 'S',
        SessionState::Failed => 'F',
        SessionState::Deleting => 'X',
    }
}

fn event(letter: char) -> Event {
    match letter {
        's' => Event::Start,
        't' => Event::Stop,
        'f' => Event::ForceStop,
        'r' => Event::Restart,
        'd' => Event::Delete,
        'u' => Event::Started,
        'x' => Event::StartFailed(failure("start_timeout")),
        'z' => Event::Stopped { snapshot: Some(id(9)), failure: None },
        'i' => Event::Idle { since: at(1_000_000) },
        _ => Event::MachineLost(failure("machine_lost")),
    }
}

/// The cell of the table.
fn expected(state: SessionState, event: char) -> char {
    let (_, row) = TABLE.iter().find(|(of, _)| *of == state).unwrap();
    row.chars().nth(EVENTS.iter().position(|known| *known == event).unwrap()).unwrap()
}

/// What people want after an event, where the event says so.
fn wanted(state: SessionState, event: char) -> Option<Goal> {
    match event {
        's' | 'r' => Some(Goal::Run),
        't' | 'f' | 'x' | 'l' | 'i' => Some(Goal::Sleep),
        'd' => Some(Goal::Delete),
        _ if state == SessionState::Deleting => Some(Goal::Delete),
        _ => None,
    }
}

fn waits(state: SessionState) -> bool {
    matches!(state, SessionState::Starting | SessionState::Stopping | SessionState::Deleting)
}

/// Checks one step against the model and answers the next record.
fn step(before: &Session, letter_of: char, now: i64, machines: &mut i64) -> Session {
    let cell = expected(before.state, letter_of);
    let Ok(step) = apply(before, &event(letter_of), at(now)) else {
        assert_eq!(cell, '.', "{:?} refuses {letter_of}", before.state);
        return before.clone();
    };
    let next = step.next;
    assert_eq!(letter(next.state), cell, "{:?} after {letter_of}", before.state);
    if let Some(goal) = wanted(before.state, letter_of) {
        assert_eq!(next.goal, goal, "{:?} after {letter_of}", before.state);
    }
    // What somebody has to wait for has an end.
    assert_eq!(next.deadline.is_some(), waits(next.state), "{:?} after {letter_of}", before.state);
    // Only a start begins a new life, and never goes back to an old one.
    let begins = cell == 'U' && before.state != SessionState::Starting;
    assert_eq!(next.epoch, before.epoch + u64::from(begins));
    assert_eq!(step.changed, next != *before);
    assert_eq!(next.revision, before.revision + u64::from(step.changed));
    *machines += match step.running {
        Running::Enters => 1,
        Running::Leaves => -1,
        Running::Same => 0,
    };
    assert_eq!(*machines, i64::from(has_machine(next.state)), "{:?} after {letter_of}", before.state);
    // Only a machine that was handed over may be worth a snapshot.
    if before.state == SessionState::Starting && next.state == SessionState::Stopping {
        assert!(next.force, "a machine that was never up must not replace a snapshot");
    }
    if next.state != SessionState::Stopping {
        assert!(!next.force || next.state == SessionState::Deleting, "{:?} after {letter_of}", before.state);
    }
    assert!(next.snapshot == before.snapshot || matches!(letter_of, 'z' | 'u'));
    // It is said what ended a machine, from the moment it is decided until the next one begins.
    let expected = match (letter(next.state), before.state, letter_of) {
        ('U', ..) => None,
        ('D', SessionState::Starting | SessionState::Running, 'i') => Some(StopCause::Idle),
        ('D', SessionState::Starting | SessionState::Running, _) => Some(StopCause::Person),
        (.., 'l') => Some(StopCause::Machine),
        _ => before.stopped_by,
    };
    assert_eq!(next.stopped_by, expected, "{:?} after {letter_of}", before.state);
    next
}

#[test]
fn every_cell_of_the_table() {
    for (state, _) in TABLE {
        for letter_of in EVENTS {
            for (goal, force) in [(Goal::Run, false), (Goal::Sleep, false), (Goal::Sleep, true)] {
                let force = force && state == SessionState::Stopping;
                let deadline = waits(state).then(|| at(50));
                let goal = match state {
                    SessionState::Deleting => Goal::Delete,
                    // Only a stop takes the wish for a machine back, and it leaves these states at once.
                    SessionState::Starting | SessionState::Running => Goal::Run,
                    _ => goal,
                };
                let before = Session { state, goal, force, deadline, epoch: 3, ..session() };
                step(&before, letter_of, 10, &mut i64::from(has_machine(state)));
            }
        }
    }
}

#[test]
fn every_state_has_a_way_out_and_late_work_is_ended() {
    for (state, _) in TABLE {
        let goal = if state == SessionState::Deleting { Goal::Delete } else { Goal::Sleep };
        let record = Session { state, goal, deadline: waits(state).then(|| at(50)), epoch: 3, ..session() };
        let (early, late) = (work(&record, at(49)), work(&record, at(50)));
        let (first, then) = match state {
            SessionState::Starting => (Work::BringUp, Work::GiveUpStart),
            SessionState::Stopping => (Work::TakeDown, Work::Kill),
            SessionState::Deleting => (Work::Remove, Work::Remove),
            SessionState::Running => (Work::Watch, Work::Watch),
            _ => (Work::Rest, Work::Rest),
        };
        assert_eq!((early, late), (first, then), "{state:?}");
        // People always have a way: everything can be deleted, everything but that can be put to rest.
        assert!(apply(&record, &Event::Delete, at(60)).is_ok());
        assert_eq!(apply(&record, &Event::ForceStop, at(60)).is_ok(), state != SessionState::Deleting);
    }
    let forced = Session { state: SessionState::Stopping, force: true, deadline: Some(at(50)), ..session() };
    assert_eq!(work(&forced, at(0)), Work::Kill);
    let waiting = Session { state: SessionState::Sleeping, goal: Goal::Run, ..session() };
    assert_eq!(work(&waiting, at(0)), Work::BeginStart);
}

#[test]
fn a_stop_keeps_the_older_snapshot_where_it_took_none() {
    let record = Session { state: SessionState::Stopping, snapshot: Some(id(7)), ..session() };
    let event = Event::Stopped { snapshot: None, failure: Some(failure("snapshot_failed")) };
    let next = apply(&record, &event, at(1)).expect("legal").next;
    assert_eq!(next.snapshot, Some(id(7)));
    assert_eq!(next.failure, Some(failure("snapshot_failed")));
}

#[test]
fn what_has_to_be_restored_stays_so_until_a_start_has_succeeded() {
    let mut record = Session { state: SessionState::Sleeping, restore: Some(id(7)), ..session() };
    for letter_of in ['s', 'x', 's', 't', 'z', 's'] {
        record = apply(&record, &event(letter_of), at(1)).expect("legal").next;
        assert_eq!(record.restore, Some(id(7)), "after {letter_of}");
    }
    let up = apply(&record, &Event::Started, at(1)).expect("legal").next;
    assert_eq!((up.restore, up.snapshot), (None, Some(id(7))));
}

#[test]
fn a_restore_that_cannot_be_carried_out_is_a_failure() {
    let stopping = Session {
        state: SessionState::Stopping,
        goal: Goal::Run,
        restore: Some(id(7)),
        unsaved: true,
        ..session()
    };
    for (cause, word) in [(None, "machine"), (Some(failure("snapshot_failed")), "It failed.")] {
        let event = Event::Stopped { snapshot: None, failure: cause.clone() };
        let next = apply(&stopping, &event, at(1)).expect("legal").next;
        // It does not go on with other files than those that were asked for.
        assert_eq!((next.restore, next.goal, next.unsaved), (None, Goal::Sleep, true));
        let why = next.failure.expect("a failure");
        assert_eq!(why.code, NOT_RESTORED);
        assert!(why.message.contains(word), "{}", why.message);
        assert!(why.hint.contains("--discard"));
    }
    // What is saved may be replaced, and so may what nobody wants to keep.
    let saved = apply(&stopping, &event('z'), at(1)).expect("legal").next;
    let discarded = Session { unsaved: false, ..stopping };
    let lost = Event::Stopped { snapshot: None, failure: None };
    let discarded = apply(&discarded, &lost, at(1)).expect("legal").next;
    for next in [saved, discarded] {
        assert_eq!((next.restore, next.goal, next.failure), (Some(id(7)), Goal::Run, None));
    }
}

#[test]
fn who_asks_for_a_machine_wins_against_its_sleep() {
    let running = Session { state: SessionState::Running, wanted_at: Some(at(5)), ..session() };
    let wanted = apply(&running, &Event::Start, at(20)).expect("legal");
    assert!(wanted.changed);
    assert_eq!(wanted.next.wanted_at, Some(at(20)));
    // Judged before or after that: what was known then decides.
    for (since, goal) in [(5, Goal::Run), (19, Goal::Run), (20, Goal::Sleep), (21, Goal::Sleep)] {
        let next = apply(&wanted.next, &Event::Idle { since: at(since) }, at(30)).expect("legal").next;
        assert_eq!((next.state, next.goal), (SessionState::Stopping, goal), "since {since}");
    }
}

#[test]
fn what_cannot_be_restored_is_given_up() {
    let record = Session { state: SessionState::Starting, restore: Some(id(7)), ..session() };
    let lost = Event::StartFailed(failure("snapshot_corrupt"));
    assert_eq!(apply(&record, &lost, at(1)).expect("legal").next.restore, None);
}

#[test]
fn a_disk_is_named_by_the_life_in_which_it_began() {
    let start = |record: &Session| apply(record, &Event::Start, at(1)).expect("legal").next;
    let first = start(&session());
    assert_eq!((first.epoch, first.disk), (1, 1));
    let kept = start(&Session { state: SessionState::Sleeping, ..first });
    assert_eq!((kept.epoch, kept.disk), (2, 1));
    let fresh = start(&Session { state: SessionState::Sleeping, restore: Some(id(7)), ..kept });
    assert_eq!((fresh.epoch, fresh.disk), (3, 3));
}

#[test]
fn a_session_is_unsaved_from_its_start_until_a_stop_that_left_a_snapshot() {
    let mut record = session();
    for (letter_of, unsaved) in
        [('s', false), ('u', true), ('l', true), ('s', true), ('u', true), ('t', true)]
    {
        record = apply(&record, &event(letter_of), at(1)).expect("legal").next;
        assert_eq!(record.unsaved, unsaved, "after {letter_of}");
    }
    let none = apply(&record, &Event::Stopped { snapshot: None, failure: None }, at(2)).expect("legal").next;
    assert!(none.unsaved);
    let some = apply(&record, &event('z'), at(2)).expect("legal").next;
    assert_eq!((some.unsaved, some.saved_at), (false, Some(at(2))));
}

proptest! {
    #[test]
    fn any_history_follows_the_model(history in prop::collection::vec(0..EVENTS.len(), 0..60)) {
        let mut record = session();
        let mut machines = 0;
        for (now, index) in history.into_iter().enumerate() {
            record = step(&record, EVENTS[index], i64::try_from(now).unwrap(), &mut machines);
        }
        // From wherever that led, the machine's own work leads to what is wanted, if everything succeeds.
        for _ in 0..6 {
            let letter_of = match work(&record, at(60)) {
                Work::BeginStart => 's',
                Work::BringUp => 'u',
                Work::TakeDown | Work::Kill => 'z',
                Work::GiveUpStart => 'x',
                Work::Rest | Work::Watch | Work::Remove => break,
            };
            record = step(&record, letter_of, 61, &mut machines);
        }
        let reached = match record.goal {
            Goal::Run => matches!(record.state, SessionState::Running | SessionState::Created),
            Goal::Sleep => !has_machine(record.state),
            Goal::Delete => record.state == SessionState::Deleting,
        };
        prop_assert!(reached, "{:?} with goal {:?}", record.state, record.goal);
    }
}
