//! Who waits for a session to come into another state is told by the commit that brings it there.
//!
//! A hint of the feed says only that something in the workspace changed. In a burst of starts everybody would read at each
//! of them, which is work of the square of their number; so a commit of this process rings those alone who wait for its
//! session, and hints count only for what other processes commit.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use burstflare_ports::clock::Clock;
use burstflare_ports::feed::Hints;
use burstflare_ports::id::Id;
use burstflare_ports::record::Session;
use burstflare_ports::store::{ChangeSet, Key, Put};
use futures_util::future::select;
use futures_util::task::AtomicWaker;
use futures_util::{StreamExt, pin_mut};

/// After a hint that was not for us in particular: at first, and at most, doubled each time.
const HINTED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A missed hint costs at most this.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

type Bells = BTreeMap<(Id<Session>, u64), Arc<Bell>>;

/// All who wait in this process: as many as there are requests that wait.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<(u64, Bells)>);

impl Waits {
    fn bells(&self) -> MutexGuard<'_, (u64, Bells)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait: what is committed from now on rings. To be called before the record is read.
    pub(super) fn begin(self: &Arc<Self>, session: Id<Session>, hints: Hints) -> Waiter {
        let bell = Arc::new(Bell::default());
        let mut bells = self.bells();
        bells.0 += 1;
        let name = (session, bells.0);
        bells.1.insert(name, Arc::clone(&bell));
        drop(bells);
        Waiter { waits: Arc::clone(self), name, bell, hints: Some(hints), pause: HINTED.0 }
    }

    /// Rings for the sessions of a commit.
    pub(super) fn after(&self, change: &ChangeSet) {
        let put = change.puts.iter().filter_map(|put| match put {
            Put::Session(session) => Some(session.id),
            _ => None,
        });
        let deleted = change.deletes.iter().filter_map(|key| match key {
            Key::Session(session) => Some(*session),
            _ => None,
        });
        for session in put.chain(deleted) {
            for (_, bell) in self.bells().1.range((session, 0)..=(session, u64::MAX)) {
                bell.rung.store(true, Ordering::Release);
                bell.waker.wake();
            }
        }
    }
}

/// One who waits, until it is dropped.
pub(super) struct Waiter {
    waits: Arc<Waits>,
    name: (Id<Session>, u64),
    bell: Arc<Bell>,
    hints: Option<Hints>,
    pause: Duration,
}

impl Waiter {
    /// Resolves when the record may have changed, and at the latest after [`LOOK`]. Cancel-safe.
    pub(super) async fn news(&mut self, clock: &dyn Clock) {
        let Self { bell, hints, pause, .. } = self;
        let rung = poll_fn(|cx| {
            bell.waker.register(cx.waker());
            if bell.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        });
        let hinted = async {
            let told = match hints {
                Some(flow) => flow.next().await.is_some(),
                None => false,
            };
            if !told {
                // Nobody hints any more.
                *hints = None;
                return std::future::pending().await;
            }
            let now = *pause;
            *pause = (now * 2).min(HINTED.1);
            clock.sleep(now).await;
        };
        let late = clock.sleep(LOOK);
        pin_mut!(rung, hinted, late);
        select(rung, select(hinted, late)).await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waits.bells().1.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use burstflare_ports::store::Family;
    use burstflare_ports::time::Timestamp;
    use futures_util::{FutureExt as _, stream};

    use super::*;

    /// Time stands still.
    struct Still;

    #[async_trait]
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(0)
        }

        async fn sleep(&self, _: Duration) {
            std::future::pending::<()>().await;
        }
    }

    fn gone(session: Id<Session>) -> ChangeSet {
        let workspace = "ws_01M84QG2C51M992NJD7Q12KB2M".parse().expect("an id");
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        change.deletes.push(Key::Session(session));
        change
    }

    #[test]
    fn a_commit_rings_for_its_session_alone_and_hints_do_not() {
        let waits = Arc::new(Waits::default());
        let mine: Id<Session> = "ses_01M84QG73Y10ADK5C3N7S7JNGD".parse().expect("an id");
        let other: Id<Session> = "ses_01M84QG73Y10ADK5C3N7S7JNGE".parse().expect("an id");
        let hints = stream::iter([(), ()]).chain(stream::pending());
        let mut waiter = waits.begin(mine, Box::pin(hints));
        assert!(waiter.news(&Still).now_or_never().is_none(), "nothing but hints");
        waits.after(&gone(other));
        assert!(waiter.news(&Still).now_or_never().is_none(), "somebody else's");
        waits.after(&gone(mine));
        assert!(waiter.news(&Still).now_or_never().is_some());
        assert!(waiter.news(&Still).now_or_never().is_none(), "told once");
        drop(waiter);
        assert!(waits.bells().1.is_empty());
    }
}
