//! Standard input on its way to the command: what has come and was not taken yet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burstflare_ports::wire::EXEC_WINDOW;
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

#[derive(Default)]
struct State {
    bytes: BytesMut,
    ended: bool,
}

/// A queue of bytes that never holds more than [`EXEC_WINDOW`].
#[derive(Default)]
pub(super) struct Input {
    state: Mutex<State>,
    changed: Notify,
}

impl Input {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes; `false` from a sender that does not keep to its window.
    pub(super) fn push(&self, bytes: &[u8]) -> bool {
        let mut state = self.state();
        if state.bytes.len() + bytes.len() > EXEC_WINDOW {
            return false;
        }
        if !state.ended {
            state.bytes.extend_from_slice(bytes);
        }
        drop(state);
        self.changed.notify_one();
        true
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_one();
    }

    /// Everything that is there, waiting for something; `None` at the end. For one taker.
    pub(super) async fn take(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state();
                if !state.bytes.is_empty() {
                    return Some(state.bytes.split().freeze());
                }
                if state.ended {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}
