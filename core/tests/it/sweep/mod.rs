//! Sweeps against snapshots, at the same time for real: on several threads sessions take, delete, fork, restore, stop and
//! start, takes break off and are given up, what was deleted comes back, and all the while two sweeps run. The clock
//! stands still but for what a round lets pass: between two rounds more than the grace, so that each begins with packs that
//! may go and are just about to be wanted again.
//!
//! After each round every complete snapshot restores to exactly what it has to hold and names live packs alone, and counters
//! are right; in the end nothing is left that no snapshot names. The orders of the threads are the machine's, so a seed
//! does not repeat exactly; what it does is the same.
//!
//! `SWEEP_SEEDS=N` runs seeds 0 to N-1 on each backend (6), `SWEEP_SEED=n` one of them.

mod difference;
mod host;
mod machines;
mod round;
mod world;

use std::collections::BTreeMap;

use self::world::{Place, World};
use crate::simulation::rng::Rng;
use crate::simulation::store::Sabotage;

/// Rounds of a seed.
const ROUNDS: usize = 3;

/// What is wrong after a seed, and how often what was done.
fn run(seed: u64, place: Place, sabotage: Sabotage) -> (Vec<String>, BTreeMap<&'static str, u64>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let world = World::new(seed, place, sabotage).await;
        let rng = Rng::new(seed);
        let mut sessions = Vec::new();
        for name in ["one", "two", "three"] {
            let session = world.session(name).await;
            world.settle(&session).await;
            sessions.push(session);
        }
        for _ in 0..ROUNDS {
            round::run(&world, &rng, &mut sessions).await;
            round::check(&world, &sessions).await;
            if !world.wrong.lock().unwrap().is_empty() {
                break;
            }
        }
        round::end(&world, &sessions).await;
        let wrong = std::mem::take(&mut *world.wrong.lock().unwrap());
        let done = std::mem::take(&mut *world.done.lock().unwrap());
        (wrong, done)
    });
    // What sleeps on a clock that stands ends here.
    runtime.shutdown_background();
    outcome
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("SWEEP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SWEEP_SEEDS").unwrap_or(6),
    }
}

fn nothing_is_lost(place: Place) {
    let (mut all, begun) = (BTreeMap::<&str, u64>::new(), std::time::Instant::now());
    for seed in seeds() {
        let (wrong, done) = run(seed, place, Sabotage::None);
        assert!(wrong.is_empty(), "SWEEP_SEED={seed} on {place:?}: {wrong:#?}");
        for (what, times) in done {
            *all.entry(what).or_default() += times;
        }
    }
    println!("{} seeds on {place:?} in {:.1?}: {all:?}", seeds().count(), begun.elapsed());
    for must in ["taken", "deleted", "forked", "restored", "packs swept", "take broke off"] {
        assert!(all.contains_key(must) || seeds().count() < 6, "never happened: {must}: {all:?}");
    }
}

#[test]
fn a_sweep_beside_snapshots_takes_nothing_that_is_named_on_sqlite_and_folder() {
    nothing_is_lost(Place::Disk);
}

#[test]
fn a_sweep_beside_snapshots_takes_nothing_that_is_named_in_memory() {
    nothing_is_lost(Place::Memory);
}

/// Some seed shows a broken rule, and says one of these words about it.
fn is_caught(sabotage: Sabotage, words: &[&str]) {
    let mut said = Vec::new();
    for seed in 0..100 {
        let (wrong, _) = run(seed, Place::Memory, sabotage);
        said.extend(wrong);
        if said.iter().any(|what| words.iter().any(|word| what.contains(word))) {
            return;
        }
    }
    panic!("{sabotage:?} was not caught: {said:?}");
}

#[test]
fn a_sweep_that_ignores_leases_is_caught() {
    is_caught(Sabotage::IgnoredLeases, &["condemned pack", "cannot be restored", "still referred to"]);
}

#[test]
fn a_removal_of_what_is_wanted_again_is_caught() {
    is_caught(Sabotage::UnguardedRemoval, &["cannot be restored", "still referred to"]);
}
