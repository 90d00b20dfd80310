//! What may happen around every call of a port.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use burstflare_ports::clock::Clock as _;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::store::CommitError;

use super::executor::{SimClock, step_aside};
use super::rng::Rng;

/// The context of every failure that the fault layer makes up.
pub(crate) const SIMULATED: &str = "simulated fault";

/// What counters of failures that no fault explains begin with.
pub(crate) const DEFECT: &str = "defect: ";

/// How often things go wrong, in 10,000 calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) delay: u32,
    pub(crate) before: u32,
    pub(crate) after: u32,
    /// Both of these, for machines.
    pub(crate) machine: u32,
    pub(crate) crash: u32,
    /// A delivered job, finished step or read wake comes again.
    pub(crate) duplicate: u32,
    /// A stream of the agent breaks off.
    pub(crate) broken: u32,
    /// A client hangs up before it is answered.
    pub(crate) impatience: u32,
    /// No place is left for work in the background.
    pub(crate) full: u32,
}

impl Rates {
    /// Nothing goes wrong by chance.
    pub(crate) const NONE: Self = Self {
        delay: 0,
        before: 0,
        after: 0,
        machine: 0,
        crash: 0,
        duplicate: 0,
        broken: 0,
        impatience: 0,
        full: 0,
    };

    /// A world of its own for each seed: some are calm, some are wild, some have one kind of fault only.
    pub(crate) fn drawn(rng: &Rng) -> Self {
        let draw = |most: usize| u32::try_from(if rng.hits(3_000) { 0 } else { rng.below(most) }).unwrap();
        Self {
            delay: draw(1_500),
            before: draw(300),
            after: draw(300),
            machine: draw(if rng.hits(2_000) { 4_000 } else { 300 }),
            crash: draw(60),
            duplicate: draw(2_000),
            broken: draw(1_500),
            impatience: 200,
            full: 500,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Faults {
    pub(crate) rng: Rng,
    pub(crate) clock: SimClock,
    rates: Rates,
    on: Arc<AtomicBool>,
    resting: Arc<AtomicBool>,
    crash: Arc<AtomicBool>,
    /// Moments around calls of ports until the control plane crashes; none where it is not lit.
    fuse: Arc<Mutex<Option<u64>>>,
    tracing: Tracing,
    trace: Arc<Mutex<Trace>>,
}

/// Whether a run is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracing {
    /// Counted only.
    Off,
    /// As a hash.
    Hash,
    /// As a hash, and printed.
    Print,
}

struct Trace {
    hasher: blake3::Hasher,
    happened: BTreeMap<String, u64>,
}

impl Faults {
    pub(crate) fn new(rng: Rng, clock: SimClock, rates: Rates, tracing: Tracing) -> Self {
        Self {
            rng,
            clock,
            rates,
            on: Arc::new(AtomicBool::new(true)),
            resting: Arc::new(AtomicBool::new(false)),
            crash: Arc::new(AtomicBool::new(false)),
            fuse: Arc::default(),
            tracing,
            trace: Arc::new(Mutex::new(Trace { hasher: blake3::Hasher::new(), happened: BTreeMap::new() })),
        }
    }

    pub(crate) fn stop(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    /// From now on nothing but time passes.
    pub(crate) fn rest(&self) {
        self.resting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn are_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Lets the control plane crash in the moment of this number from now on, before or behind a port's effect.
    pub(crate) fn light(&self, moments: u64) {
        *self.fuse.lock().unwrap() = Some(moments);
    }

    /// Whether the fuse has not burnt down yet; puts it out.
    pub(crate) fn put_out(&self) -> bool {
        self.fuse.lock().unwrap().take().is_some()
    }

    fn burn(&self) {
        let mut fuse = self.fuse.lock().unwrap();
        match *fuse {
            Some(0) => {
                *fuse = None;
                self.crash.store(true, Ordering::Relaxed);
            }
            Some(left) => *fuse = Some(left - 1),
            None => {}
        }
    }

    pub(crate) fn are_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Whether a crash was asked for since the last question.
    pub(crate) fn crash_now(&self) -> bool {
        self.crash.swap(false, Ordering::Relaxed)
    }

    /// Notes what happened; equal notes in equal order are equal runs.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.tracing == Tracing::Off {
            return;
        }
        let line = format!("{} {}\n", self.clock.now(), what());
        self.trace.lock().unwrap().hasher.update(line.as_bytes());
        if self.tracing == Tracing::Print {
            print!("{line}");
        }
    }

    /// Counts that something happened.
    pub(crate) fn count(&self, what: &str) {
        let mut trace = self.trace.lock().unwrap();
        match trace.happened.get_mut(what) {
            Some(times) => *times += 1,
            None => drop(trace.happened.insert(what.to_owned(), 1)),
        }
    }

    /// Notes a failure that no fault explains: the control plane asked for something that makes no sense.
    pub(crate) fn judge(&self, what: &str, error: &PortError) {
        let odd = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Internal | ErrorKind::Conflict);
        if odd && error.context() != SIMULATED {
            self.count(&format!("{DEFECT}{what}: {error:?}"));
        }
    }

    /// How often what happened.
    pub(crate) fn happened(&self) -> BTreeMap<String, u64> {
        self.trace.lock().unwrap().happened.clone()
    }

    /// The hash over everything that happened, in order.
    pub(crate) fn trace(&self) -> Option<String> {
        let hash = || self.trace.lock().unwrap().hasher.finalize().to_hex().to_string();
        (self.tracing != Tracing::Off).then(hash)
    }

    fn hits(&self, rate: u32) -> bool {
        self.are_on() && self.rng.hits(rate)
    }

    pub(crate) fn duplicates(&self) -> bool {
        self.hits(self.rates.duplicate)
    }

    pub(crate) fn hangs_up(&self) -> bool {
        self.hits(self.rates.impatience)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.hits(self.rates.full)
    }

    /// Whether a call on a machine has its effect only after its caller has given up.
    pub(crate) fn comes_late(&self) -> bool {
        self.hits(self.rates.machine / 2)
    }

    pub(crate) fn breaks(&self) -> bool {
        let breaks = self.hits(self.rates.broken);
        if breaks {
            self.count("stream breaks off");
        }
        breaks
    }

    /// Waits in front of an effect: others run, time may pass, the plane may be gone.
    async fn pause(&self) {
        self.burn();
        if self.hits(self.rates.crash) {
            self.crash.store(true, Ordering::Relaxed);
        }
        step_aside().await;
        if self.hits(self.rates.delay) {
            self.count("delay");
            let span = self.rng.below(if self.rng.hits(500) { 20_000 } else { 300 });
            self.clock.sleep(Duration::from_millis(span as u64)).await;
        }
    }

    /// Machines fail in more ways than stores: some failures say that trying again is of no use.
    fn failure(&self, operation: &'static str) -> PortError {
        let kind = match self.rng.below(6) {
            0 | 1 if is_of_machines(operation) => ErrorKind::Internal,
            2 => ErrorKind::Timeout,
            _ => ErrorKind::Unavailable,
        };
        PortError::new(kind, operation, SIMULATED)
    }

    /// A call of a port.
    pub(crate) async fn around<T>(
        &self,
        operation: &'static str,
        effect: impl Future<Output = PortResult<T>>,
    ) -> PortResult<T> {
        let (before, after) = if is_of_machines(operation) {
            (self.rates.machine, self.rates.machine)
        } else {
            (self.rates.before, self.rates.after)
        };
        self.pause().await;
        if self.hits(before) {
            self.note(|| format!("{operation} fails before"));
            self.count("fails before");
            return Err(self.failure(operation));
        }
        let outcome = effect.await;
        match &outcome {
            Ok(_) => self.note(|| operation.to_owned()),
            // Backends say the same in their own words.
            Err(error) => self.note(|| format!("{operation}: {:?}", error.kind())),
        }
        self.pause().await;
        if outcome.is_ok() && self.hits(after) {
            self.note(|| format!("{operation} fails after"));
            self.count("fails after");
            return Err(self.failure(operation));
        }
        outcome
    }

    /// The same for a commit, whose refusals are no failures.
    pub(crate) async fn around_commit(
        &self,
        what: impl FnOnce() -> String,
        effect: impl Future<Output = Result<(), CommitError>>,
    ) -> Result<(), CommitError> {
        let mut refused = None;
        let applied = self
            .around("store.commit", async {
                match effect.await {
                    Ok(()) => {
                        self.note(what);
                        Ok(())
                    }
                    Err(CommitError::Refused(guard)) => {
                        self.count("commit refused by a guard");
                        self.note(|| format!("refused by {guard:?}"));
                        refused = Some(guard);
                        Ok(())
                    }
                    Err(CommitError::Failed(error)) => Err(error),
                }
            })
            .await;
        match (applied, refused) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(guard)) => Err(CommitError::Refused(guard)),
            (Err(error), _) => Err(CommitError::Failed(error)),
        }
    }
}

fn is_of_machines(operation: &str) -> bool {
    operation == "agent" || operation.starts_with("runtime.")
}
