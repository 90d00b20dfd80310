//! Many seeds at once: each is a world of its own on one thread, and the totals say what happened in them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::run::run;
use super::store::Sabotage;

/// What happened in all seeds together.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) seeds: u64,
    /// Steps: see the module's documentation.
    pub(super) steps: u64,
    /// Futures polled.
    pub(super) polls: u64,
    pub(super) crashes: u64,
    /// Time that passed in the worlds.
    pub(super) simulated: Duration,
    pub(super) took: Duration,
    /// How often what users asked for was acknowledged.
    pub(super) acknowledged: BTreeMap<&'static str, u64>,
    /// How often what happened, by name.
    pub(super) happened: BTreeMap<String, u64>,
    /// The seeds that broke an invariant, and how.
    pub(super) failed: BTreeMap<u64, Vec<String>>,
}

/// Runs these seeds on as many threads.
pub(super) fn run_all(seeds: Range<u64>, steps: usize, threads: usize) -> Totals {
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(seed, steps, Sabotage::None, false);
                    let mut totals = totals.lock().unwrap();
                    totals.seeds += 1;
                    totals.steps += outcome.steps;
                    totals.polls += outcome.polls;
                    totals.crashes += outcome.crashes;
                    totals.simulated += outcome.simulated;
                    for (what, times) in outcome.done {
                        *totals.acknowledged.entry(what).or_default() += times;
                    }
                    for (what, times) in outcome.happened {
                        *totals.happened.entry(what).or_default() += times;
                    }
                    if !outcome.violations.is_empty() {
                        println!("SIM_SEED={seed}:\n  {}", outcome.violations.join("\n  "));
                        totals.failed.insert(seed, outcome.violations);
                    }
                    if totals.seeds.is_multiple_of(500) {
                        println!("… {} seeds, {} steps, {:.0?}", totals.seeds, totals.steps, begun.elapsed());
                    }
                }
            });
        }
    });
    let mut totals = totals.into_inner().unwrap();
    totals.took = begun.elapsed();
    totals
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "{} steps over {} seeds in {:.1?}: {:.0} steps/s; {} seeds broke an invariant",
            self.steps,
            self.seeds,
            self.took,
            self.steps as f64 / seconds,
            self.failed.len()
        )?;
        writeln!(
            f,
            "{} crashes of the control plane, {} polls, {:.0} simulated hours",
            self.crashes,
            self.polls,
            self.simulated.as_secs_f64() / 3_600.0
        )?;
        writeln!(f, "acknowledged to users:")?;
        self.acknowledged.iter().try_for_each(|(what, times)| writeln!(f, "  {times:>9}  {what}"))?;
        writeln!(f, "happened:")?;
        self.happened.iter().try_for_each(|(what, times)| writeln!(f, "  {times:>9}  {what}"))
    }
}
