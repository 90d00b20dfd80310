//! One seed: a world, its faults, its users, and what is wrong in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use burstflare_ports::blob::Blobs;
use burstflare_ports::clock::Clock as _;
use burstflare_ports::memory::{MemoryBlobs, MemoryStore};
use burstflare_ports::store::Store;
use burstflare_ports::time::Timestamp;

use super::disk::Disk;
use super::executor::{Executor, Side, SimClock};
use super::fault::{Faults, Rates, Tracing};
use super::rng::Rng;
use super::store::Sabotage;
use super::user::Client;
use super::world::World;

/// When the simulated world begins, in milliseconds since 1970.
const BEGINNING: i64 = 1_800_000_000_000;
/// How long everything may take to come to rest once the faults have stopped: a start and a stop may wait for their
/// deadlines one after the other, and a build for the lease of its longest step three times.
const PATIENCE: Duration = Duration::from_secs(4 * 3_600);
/// Longer than any session of the world stays awake unused, and until what nothing names any more is found, condemned and
/// found again, together.
const REST: Duration = Duration::from_secs(20 * 3_600);
/// More polls than this are a control plane that runs in circles.
const POLLS: u64 = 5_000_000;

/// What came of a seed.
pub(super) struct Outcome {
    pub(super) violations: Vec<String>,
    /// Over everything that happened, in order, where that was wanted.
    pub(super) trace: Option<String>,
    pub(super) steps: u64,
    pub(super) polls: u64,
    pub(super) crashes: u64,
    /// Time that passed in the world.
    pub(super) simulated: Duration,
    /// Acknowledged actions.
    pub(super) done: BTreeMap<&'static str, u64>,
    /// How often what happened.
    pub(super) happened: BTreeMap<String, u64>,
}

/// Runs a seed.
pub(super) fn run(seed: u64, steps: usize, sabotage: Sabotage, print: bool) -> Outcome {
    live(seed, steps, sabotage, if print { Tracing::Print } else { Tracing::Off }, None)
}

/// Runs a seed on the real records and blobs of one machine, and hashes what happens.
pub(super) fn run_on_disk(seed: u64, steps: usize, print: bool) -> Outcome {
    let tracing = if print { Tracing::Print } else { Tracing::Hash };
    live(seed, steps, Sabotage::None, tracing, Some(Disk::new()))
}

/// Runs a seed and hashes what happens.
pub(super) fn run_traced(seed: u64, steps: usize, sabotage: Sabotage) -> Outcome {
    live(seed, steps, sabotage, Tracing::Hash, None)
}

fn live(seed: u64, steps: usize, sabotage: Sabotage, tracing: Tracing, disk: Option<Disk>) -> Outcome {
    let rng = Rng::new(seed);
    let clock = SimClock::starting_at(BEGINNING);
    let rates = Rates::drawn(&rng);
    let faults = Faults::new(rng.clone(), clock.clone(), rates, tracing);
    let mut executor = Executor::new(rng.clone(), clock.clone());
    let plan = if rng.hits(5_000) { "tiny" } else { "standard" };
    faults.note(|| format!("seed {seed}, plan {plan}, {rates:?}"));
    let (store, blobs): (Arc<dyn Store>, Arc<dyn Blobs>) = match &disk {
        Some(disk) => (Arc::new(disk.clone()), Arc::new(disk.clone())),
        None => (Arc::new(MemoryStore::default()), Arc::new(MemoryBlobs::default())),
    };
    let world =
        World::new(rng, clock, executor.spawner.clone(), faults.clone(), sabotage, plan, store, blobs, disk);
    world.boot();
    let verdict: Arc<Mutex<Option<Vec<String>>>> = Arc::default();
    let (watched, written) = (world.clone(), Arc::clone(&verdict));
    executor.spawner.spawn(Side::World, async move {
        let found = unfold(&watched, steps).await;
        *written.lock().unwrap() = Some(found);
    });
    let mut crashes = 0;
    let violations = loop {
        if let Some(found) = verdict.lock().unwrap().take() {
            break found;
        }
        if !executor.turn() {
            break vec!["everybody waits for nothing".to_owned()];
        }
        if executor.polls > POLLS {
            break vec!["it runs in circles".to_owned()];
        }
        if faults.crash_now() && world.plane.lock().unwrap().is_some() {
            crashes += 1;
            executor.crash();
            world.crashed();
        }
    };
    if let Some((_, hosts)) = world.plane.lock().unwrap().take() {
        hosts.forget();
    }
    let ledger = world.ledger();
    Outcome {
        violations,
        trace: faults.trace(),
        steps: ledger.steps,
        polls: executor.polls,
        crashes,
        simulated: world.clock.now().since(Timestamp::from_millis(BEGINNING)),
        done: ledger.done.clone(),
        happened: faults.happened(),
    }
}

/// The story of a world: users act amid faults, the faults end, everything comes to rest, and is looked at.
async fn unfold(world: &World, steps: usize) -> Vec<String> {
    let gremlin = world.clone();
    world.spawner.spawn(Side::World, async move {
        loop {
            gremlin.sleep(gremlin.rng.below(120_000)).await;
            if !gremlin.faults.are_on() {
                return;
            }
            gremlin.machines.kill_one();
        }
    });
    let alive = Arc::new(Mutex::new(0_usize));
    for account in 0..2 {
        world.register().await;
        for _ in 0..2 {
            *alive.lock().unwrap() += 1;
            let (client, alive) =
                (Client { world: world.clone(), account, sent: Arc::default() }, Arc::clone(&alive));
            world.spawner.spawn(Side::World, async move {
                client.live(steps).await;
                *alive.lock().unwrap() -= 1;
            });
        }
    }
    while *alive.lock().unwrap() > 0 {
        world.sleep(1_000).await;
    }
    world.faults.stop();
    world.faults.note(|| "faults stop".to_owned());
    let until = world.clock.now().after(PATIENCE);
    loop {
        world.sleep(5_000).await;
        let restless = world.restless().await;
        if restless.is_empty() {
            break;
        }
        if world.clock.now() > until {
            return restless.into_iter().map(|what| format!("stuck: {what}")).collect();
        }
    }
    // Sessions that nobody uses go to sleep, and what nothing names any more is swept; what is there then stays.
    world.faults.rest();
    world.sleep(usize::try_from(REST.as_millis()).unwrap()).await;
    let mut found = world.violations().await;
    found.extend(world.restless().await.into_iter().map(|what| format!("again: {what}")));
    found
}
