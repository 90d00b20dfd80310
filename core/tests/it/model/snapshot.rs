//! Retention, autosave and the sweep.

use std::time::Duration;

use burstflare_core::domain::snapshot::{
    Keep, PACK_GRACE, Retention, Sweep, autosave_at, is_needed, is_scattered, sweep, to_retire,
};
use burstflare_ports::record::{
    Pack, PackState, Session, SessionState, Snapshot, SnapshotKind, SnapshotState,
};
use proptest::prelude::*;

use super::record::{at, id, session};

const KEEP: Retention = Retention {
    auto: Keep { count: 2, age: Duration::from_secs(100) },
    pre_restore: Keep { count: 1, age: Duration::from_secs(100) },
    manual: Duration::from_secs(100),
};

fn snapshot(number: u8, kind: SnapshotKind, state: SnapshotState, due: Option<i64>, named: bool) -> Snapshot {
    Snapshot {
        id: id(number),
        workspace: id(2),
        session: id(1),
        kind,
        state,
        label: named.then(|| "kept".parse().unwrap()),
        parent: None,
        format: 2,
        blob: "b".parse().unwrap(),
        digest: String::new(),
        files: 0,
        bytes: 0,
        stored: 0,
        packed: 0,
        epoch: 1,
        verified_at: None,
        due_at: due.map(at),
        failure: None,
        created_at: at(0),
        revision: 1,
    }
}

fn any_snapshot(number: u8) -> impl Strategy<Value = Snapshot> {
    let kind =
        prop_oneof![Just(SnapshotKind::Auto), Just(SnapshotKind::Manual), Just(SnapshotKind::PreRestore)];
    let state = prop_oneof![
        3 => Just(SnapshotState::Complete),
        1 => Just(SnapshotState::Failed),
        1 => Just(SnapshotState::Pending)
    ];
    (kind, state, prop::option::of(0_i64..100), prop::bool::weighted(0.2))
        .prop_map(move |(kind, state, due, named)| snapshot(number, kind, state, due, named))
}

fn history() -> impl Strategy<Value = Vec<Snapshot>> {
    (0_u8..12).prop_flat_map(|count| (0..count).map(|number| any_snapshot(number + 10)).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_is_needed_stays_and_what_is_too_much_goes(
        all in history(), uses in 0_usize..12, restores in 0_usize..12, now in 0_i64..120
    ) {
        let complete = |index: usize| {
            all.get(index).filter(|it| it.state == SnapshotState::Complete).map(|it| it.id)
        };
        let owner = Session { snapshot: complete(uses), restore: complete(restores), ..session() };
        let goes = to_retire(&owner, &all, &KEEP, at(now));
        let newest = all.iter().filter(|it| it.state == SnapshotState::Complete).map(|it| it.id).max();
        for it in &all {
            let gone = goes.contains(&it.id);
            if [owner.snapshot, owner.restore, newest].contains(&Some(it.id)) {
                prop_assert!(!gone && is_needed(&owner, &all, it.id));
            }
            match it.state {
                SnapshotState::Pending => prop_assert!(!gone),
                SnapshotState::Failed => prop_assert_eq!(gone, it.due_at.is_none_or(|due| due <= at(now))),
                SnapshotState::Complete if it.label.is_some() => prop_assert!(!gone),
                SnapshotState::Complete if gone => {
                    let old = it.due_at.is_some_and(|due| due <= at(now));
                    let younger = all.iter().filter(|other| {
                        other.kind == it.kind && other.state == it.state && other.label.is_none() && other.id > it.id
                    });
                    let most = match it.kind {
                        SnapshotKind::Auto => 2,
                        SnapshotKind::PreRestore => 1,
                        SnapshotKind::Manual => usize::MAX,
                    };
                    prop_assert!(old || younger.count() >= most);
                }
                SnapshotState::Complete => {
                    let needed = is_needed(&owner, &all, it.id);
                    prop_assert!(needed || it.due_at.is_none_or(|due| due > at(now)));
                }
            }
        }
        // Letting go is done after one look.
        let left: Vec<Snapshot> = all.iter().filter(|it| !goes.contains(&it.id)).cloned().collect();
        prop_assert!(to_retire(&owner, &left, &KEEP, at(now)).is_empty());
    }
}

#[test]
fn a_running_session_is_due_a_period_after_the_last_look() {
    let period = Some(Duration::from_millis(10));
    let running = Session { state: SessionState::Running, changed_at: at(5), ..session() };
    assert_eq!(autosave_at(&running, period), Some(at(5).after(Duration::from_millis(10))));
    let saved = Session { saved_at: Some(at(9)), ..running.clone() };
    assert_eq!(autosave_at(&saved, period), Some(at(9).after(Duration::from_millis(10))));
    // What was saved in an earlier life does not make it late.
    let earlier = Session { saved_at: Some(at(1)), ..running.clone() };
    assert_eq!(autosave_at(&earlier, period), autosave_at(&running, period));
    assert_eq!(autosave_at(&running, None), None);
    assert_eq!(autosave_at(&Session { state: SessionState::Stopping, ..running }, period), None);
}

#[test]
fn a_pack_is_condemned_first_and_goes_after_its_grace() {
    let pack = |state, condemned_at| Pack {
        id: id(1),
        workspace: id(2),
        lineage: id(3),
        hash: String::new(),
        bytes: 1,
        state,
        condemned_at,
        created_at: at(0),
        revision: 1,
    };
    for state in [PackState::Storing, PackState::Live] {
        assert_eq!(sweep(&pack(state, None), false, at(1)), Sweep::Condemn);
        assert_eq!(sweep(&pack(state, None), true, at(1)), Sweep::Leave);
    }
    let condemned = pack(PackState::Condemned, Some(at(1)));
    let over = at(1).after(PACK_GRACE);
    assert_eq!(sweep(&condemned, false, over.before(Duration::from_millis(1))), Sweep::Leave);
    assert_eq!(sweep(&condemned, false, over), Sweep::Remove);
    assert_eq!(sweep(&condemned, true, over), Sweep::Leave);
}

#[test]
fn many_small_packs_are_packed_anew_and_many_full_ones_are_not() {
    assert!(!is_scattered(200, 1000));
    assert!(is_scattered(201, 1000));
    assert!(!is_scattered(4096, 64 << 30));
}
