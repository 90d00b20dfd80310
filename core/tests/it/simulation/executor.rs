//! Polls futures one at a time in an order that a seed decides, and moves the clock when nothing can run.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::clock::{Clock, Task};
use burstflare_ports::time::Timestamp;

use super::rng::Rng;

/// Whose a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The control plane's: it goes in a crash.
    Plane,
    /// The world's.
    World,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Entry {
    side: Side,
    future: Task,
    flag: Arc<Flag>,
}

/// Starts tasks, and tells and waits for time.
#[derive(Clone, Default)]
pub(crate) struct Spawner {
    fresh: Arc<Mutex<Vec<(Side, Task)>>>,
}

impl Spawner {
    pub(crate) fn spawn(&self, side: Side, task: impl Future<Output = ()> + Send + 'static) {
        self.fresh.lock().unwrap().push((side, Box::pin(task)));
    }
}

/// Time that only moves when nothing else does.
#[derive(Clone, Default)]
pub(crate) struct SimClock {
    now: Arc<AtomicI64>,
    next: Arc<AtomicU64>,
    timers: Arc<Mutex<BTreeMap<(i64, u64), Waker>>>,
}

impl SimClock {
    pub(crate) fn starting_at(millis: i64) -> Self {
        let clock = Self::default();
        clock.now.store(millis, Ordering::Relaxed);
        clock
    }

    /// Jumps to the next moment somebody waits for; false where nobody does.
    fn jump(&self) -> bool {
        let mut timers = self.timers.lock().unwrap();
        let Some((&(at, _), _)) = timers.first_key_value() else { return false };
        self.now.fetch_max(at, Ordering::Relaxed);
        while let Some(entry) = timers.first_entry() {
            if entry.key().0 > at {
                break;
            }
            entry.remove().wake();
        }
        true
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }

    async fn sleep(&self, span: Duration) {
        let at = self.now().after(span).millis();
        if span.is_zero() {
            return;
        }
        Sleep { clock: self.clone(), key: (at, self.next.fetch_add(1, Ordering::Relaxed)) }.await;
    }
}

struct Sleep {
    clock: SimClock,
    key: (i64, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now.load(Ordering::Relaxed) >= self.key.0 {
            return Poll::Ready(());
        }
        self.clock.timers.lock().unwrap().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.timers.lock().unwrap().remove(&self.key);
    }
}

/// Lets everybody else run first.
pub(crate) async fn step_aside() {
    let mut passed = false;
    std::future::poll_fn(move |context| {
        if passed {
            return Poll::Ready(());
        }
        passed = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The scheduler.
pub(crate) struct Executor {
    rng: Rng,
    pub(crate) clock: SimClock,
    pub(crate) spawner: Spawner,
    tasks: BTreeMap<u64, Entry>,
    next: u64,
    /// Polls so far.
    pub(crate) polls: u64,
}

impl Executor {
    pub(crate) fn new(rng: Rng, clock: SimClock) -> Self {
        Self { rng, clock, spawner: Spawner::default(), tasks: BTreeMap::new(), next: 0, polls: 0 }
    }

    /// Polls one task that can run. Where none can, time jumps. False when nobody waits for anything.
    pub(crate) fn turn(&mut self) -> bool {
        self.admit();
        let ready: Vec<u64> = self
            .tasks
            .iter()
            .filter(|(_, entry)| entry.flag.0.load(Ordering::Relaxed))
            .map(|(id, _)| *id)
            .collect();
        let Some(id) = self.rng.pick(&ready) else { return self.clock.jump() };
        let entry = self.tasks.get_mut(id).unwrap();
        entry.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&entry.flag));
        self.polls += 1;
        if entry.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.tasks.remove(id);
        }
        true
    }

    /// Drops all futures of the control plane.
    pub(crate) fn crash(&mut self) {
        self.admit();
        self.tasks.retain(|_, entry| entry.side != Side::Plane);
        // What the dropped futures started while they were dropped goes, too.
        self.spawner.fresh.lock().unwrap().retain(|(side, _)| *side != Side::Plane);
    }

    fn admit(&mut self) {
        let fresh = std::mem::take(&mut *self.spawner.fresh.lock().unwrap());
        for (side, future) in fresh {
            let flag = Arc::new(Flag(AtomicBool::new(true)));
            self.tasks.insert(self.next, Entry { side, future, flag });
            self.next += 1;
        }
    }
}
