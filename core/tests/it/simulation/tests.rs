//! The seeds.

use super::run::{run, run_on_disk, run_traced};
use super::seeds::run_all;
use super::store::Sabotage;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn steps() -> usize {
    usize::try_from(number("SIM_STEPS", 25)).unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_stuck() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let (number_of, print) = (seed.parse().unwrap(), number("SIM_TRACE", 0) == 1);
        let outcome = if number("SIM_DISK", 0) == 1 {
            run_on_disk(number_of, steps(), print)
        } else {
            run(number_of, steps(), Sabotage::None, print)
        };
        println!("trace {}", outcome.trace.unwrap_or_default());
        assert!(outcome.violations.is_empty(), "SIM_SEED={seed}: {:#?}", outcome.violations);
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let threads = usize::try_from(number("SIM_THREADS", cores)).unwrap();
    let totals = run_all(0..number("SIM_SEEDS", 200), steps(), threads);
    println!("{totals}");
    let failed: Vec<_> = totals.failed.keys().collect();
    assert!(failed.is_empty(), "failing seeds (run one with SIM_SEED=n SIM_TRACE=1): {failed:?}");
    for must in ["crash", "machine dies", "fails before", "fails after", "delay", "job again", "idle"] {
        assert!(totals.happened.contains_key(must), "never happened: {must}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let traced = |seed, steps| run_traced(seed, steps, Sabotage::None);
    for seed in [3, 17] {
        let (first, second) = (traced(seed, steps()), traced(seed, steps()));
        assert!(first.trace.is_some());
        assert_eq!(first.trace, second.trace);
        assert_eq!(first.polls, second.polls);
    }
    assert_ne!(traced(3, 5).trace, traced(4, 5).trace);
}

/// The real adapters under the same faults, and crashes that leave their files as they lie. They tell the very same
/// stories as the memory backends, to the last event: what is proven on these holds on them.
#[test]
fn real_records_and_blobs_tell_the_same_stories() {
    let mut crashes = 0;
    for seed in 0..number("SIM_DISK_SEEDS", 12) {
        let (memory, disk) = (run_traced(seed, steps(), Sabotage::None), run_on_disk(seed, steps(), false));
        assert!(disk.violations.is_empty(), "SIM_SEED={seed}: {:#?}", disk.violations);
        assert_eq!(memory.trace, disk.trace, "SIM_SEED={seed}");
        crashes += disk.crashes;
    }
    assert!(crashes > 0);
}

/// Some seed notices the sabotage, and says one of these words about it.
fn noticed(sabotage: Sabotage, words: &[&str]) {
    let mut said = Vec::new();
    for seed in 0..50 {
        said.extend(run(seed, steps(), sabotage, false).violations);
        if said.iter().any(|what| words.iter().any(|word| what.contains(word))) {
            return;
        }
    }
    panic!("{sabotage:?} was not noticed: {said:?}");
}

#[test]
fn single_uses_that_work_twice_are_noticed() {
    noticed(Sabotage::Unspent, &["times", "good twice"]);
}

#[test]
fn exceeded_quotas_are_noticed() {
    noticed(Sabotage::Below, &["the plan allows"]);
}

/// No sabotage: what the outbox promises is only ever a quicker way to what reconcile finds by itself.
#[test]
fn reconcile_makes_good_what_the_outbox_forgets() {
    for seed in 1_000..1_020 {
        let outcome = run(seed, steps(), Sabotage::LostEffects, false);
        assert!(outcome.violations.is_empty(), "SIM_SEED={seed}: {:?}", outcome.violations);
    }
}

#[test]
fn a_sweep_that_takes_what_is_named_is_noticed() {
    noticed(Sabotage::SweepTakesAll, &["restored", "still referred to"]);
}

#[test]
fn snapshots_that_do_not_name_their_packs_are_noticed() {
    noticed(Sabotage::NamelessPacks, &["restored"]);
}

#[test]
fn forks_without_reference_are_noticed() {
    noticed(Sabotage::UnsharedForks, &["restored"]);
}

#[test]
fn a_sweep_that_never_comes_is_noticed() {
    noticed(Sabotage::NoSweep, &["left over"]);
}

#[test]
fn a_walk_that_takes_what_is_named_is_noticed() {
    noticed(Sabotage::BlindWalk, &["restored", "gone", "not what was built"]);
}

#[test]
fn sleep_that_minds_no_activity_is_noticed() {
    noticed(Sabotage::DeafAgents, &["in use"]);
}

#[test]
fn machines_that_stay_are_noticed() {
    noticed(Sabotage::ImmortalMachines, &["machine"]);
}

#[test]
fn lost_disks_are_noticed() {
    noticed(Sabotage::ForgetfulDisks, &["lost"]);
}
