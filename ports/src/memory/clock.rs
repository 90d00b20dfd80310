use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::locked;
use crate::clock::{Clock, Entropy};
use crate::error::PortResult;
use crate::time::Timestamp;

/// A clock that stands until it is moved. Who sleeps is woken when it is moved to their moment; clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    /// By moment, then in the order of falling asleep.
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    slept: u64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { state: Arc::new(Mutex::new(State { now, sleepers: BTreeMap::new(), slept: 0 })) }
    }

    /// Moves it forward.
    pub fn advance(&self, span: Duration) {
        let now = locked(&self.state).now.after(span);
        self.set(now);
    }

    /// Sets it, possibly back; wakes who sleeps until then, the earliest first.
    pub fn set(&self, now: Timestamp) {
        let woken = {
            let mut state = locked(&self.state);
            state.now = now;
            let later = state.sleepers.split_off(&(Timestamp::from_millis(now.millis() + 1), 0));
            std::mem::replace(&mut state.sleepers, later)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// When the next sleeper wants to wake.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        locked(&self.state).sleepers.keys().next().map(|(at, _)| *at)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        locked(&self.state).now
    }

    /// The moment of waking is reckoned from this call, not from the first poll.
    fn sleep<'s, 'f>(&'s self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let mut state = locked(&self.state);
        state.slept += 1;
        let key = (state.now.after(span), state.slept);
        Box::pin(Sleep { state: Arc::clone(&self.state), key })
    }
}

struct Sleep {
    state: Arc<Mutex<State>>,
    key: (Timestamp, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = locked(&self.state);
        if state.now >= self.key.0 {
            state.sleepers.remove(&self.key);
            return Poll::Ready(());
        }
        state.sleepers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        locked(&self.state).sleepers.remove(&self.key);
    }
}

/// Randomness that is the same for the same seed: for tests alone.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    calls: Mutex<u64>,
}

impl SeededEntropy {
    /// The randomness of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, calls: Mutex::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) -> PortResult<()> {
        let mut calls = locked(&self.calls);
        *calls += 1;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&calls.to_le_bytes());
        hasher.finalize_xof().fill(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn sleepers_wake_when_the_clock_is_moved() {
        let clock = ManualClock::new(Timestamp::from_millis(0));
        let mut nap = clock.sleep(Duration::from_secs(10));
        assert!((&mut nap).now_or_never().is_none());
        assert_eq!(clock.next_wake(), Some(Timestamp::from_millis(10_000)));
        clock.advance(Duration::from_millis(9_999));
        assert!((&mut nap).now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        assert!((&mut nap).now_or_never().is_some());
        let mut given_up = clock.sleep(Duration::from_secs(1));
        assert!((&mut given_up).now_or_never().is_none());
        drop(given_up);
        assert_eq!(clock.next_wake(), None);
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        let draw = |seed| {
            let entropy = SeededEntropy::new(seed);
            let mut both = [[0; 16]; 2];
            for bytes in &mut both {
                entropy.fill(bytes).expect("bytes");
            }
            both
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
    }
}
