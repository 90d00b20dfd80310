//! What a client has sent on a channel and nobody has taken yet.
//!
//! The SSH library gives a client new window as soon as data has arrived, taken or not, and serves a whole connection
//! in one loop. Waiting there for a slow program would be back-pressure, but also a deadlock: the program may be
//! waiting for us to carry its output, which needs that loop. So an inbox that is over [`SOFT`] is waited for only
//! briefly ([`PATIENCE`]), and the window is given out in drops ([`TRICKLE`]) until it is below again: a reader that
//! is slow slows its writer down, and one that has stopped stops it, within a bounded amount of memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

/// From here on the writer is slowed down.
const SOFT: usize = 1 << 20;
/// Beyond this the channel is given up. A client that keeps to its window needs hours to get here.
const HARD: usize = 16 << 20;
/// How long the connection's loop waits for a full inbox, at each packet.
const PATIENCE: Duration = Duration::from_millis(10);
/// The window while an inbox is full: the least that still makes the client ask again.
pub(super) const TRICKLE: u32 = 2;

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    unwanted: bool,
}

/// Filled by the connection's loop, emptied by one reader.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
    gone: Notify,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in data; `false` when the channel is to be given up.
    #[must_use]
    pub(super) async fn push(&self, bytes: &[u8]) -> bool {
        {
            let mut state = self.state();
            if state.unwanted || state.ended || bytes.is_empty() {
                return true;
            }
            state.queue.push_back(Bytes::copy_from_slice(bytes));
            state.bytes += bytes.len();
            if state.bytes > HARD {
                return false;
            }
        }
        self.filled.notify_one();
        if self.is_full() {
            // Whether it has become emptier or not: the loop has to go on.
            let _ = tokio::time::timeout(PATIENCE, self.drained.notified()).await;
        }
        true
    }

    /// Whether the client has to be slowed down.
    pub(super) fn is_full(&self) -> bool {
        self.state().bytes > SOFT
    }

    /// No more will come.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.filled.notify_one();
    }

    /// Nobody will read any more: what is there and what comes is dropped.
    pub(super) fn close(&self) {
        let mut state = self.state();
        *state = State { ended: state.ended, unwanted: true, ..State::default() };
        drop(state);
        self.drained.notify_one();
    }

    /// The channel is no more. To be told once.
    pub(super) fn leave(&self) {
        self.close();
        self.filled.notify_one();
        self.gone.notify_one();
    }

    /// Waits for [`Inbox::leave`]; for one waiter.
    pub(super) async fn gone(&self) {
        self.gone.notified().await;
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state();
                if let Some(bytes) = state.queue.pop_front() {
                    let was_full = state.bytes > SOFT;
                    state.bytes -= bytes.len();
                    if was_full && state.bytes <= SOFT {
                        self.drained.notify_one();
                    }
                    return Some(bytes);
                }
                if state.ended || state.unwanted {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_a_queue_with_an_end() {
        let inbox = Inbox::default();
        assert!(inbox.push(b"one").await && inbox.push(b"").await && inbox.push(b"two").await);
        inbox.end();
        assert!(inbox.push(b"late").await);
        assert_eq!(inbox.next().await.as_deref(), Some(&b"one"[..]));
        assert_eq!(inbox.next().await.as_deref(), Some(&b"two"[..]));
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn a_full_one_is_waited_for_briefly_and_given_up_in_the_end() {
        let inbox = Inbox::default();
        let chunk = vec![0; 256 << 10];
        let mut pushed = 0;
        while inbox.push(&chunk).await {
            pushed += chunk.len();
            assert_eq!(inbox.is_full(), pushed > SOFT);
            assert!(pushed <= HARD, "it is bounded");
        }
        inbox.close();
        assert!(!inbox.is_full() && inbox.push(&chunk).await && !inbox.is_full());
        assert_eq!(inbox.next().await, None);
    }
}
