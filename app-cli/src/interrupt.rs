//! Ctrl-C at a bad moment: what must not be cut in half holds a guard, and the program ends when it is let go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// While it lives, an interrupted program goes on for a moment.
#[derive(Debug)]
pub struct Guard(());

/// Begins something that must not be cut in half.
#[must_use]
pub fn guard() -> Guard {
    HELD.fetch_add(1, Ordering::SeqCst);
    Guard(())
}

impl Drop for Guard {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until nothing is held any more, at most 20 seconds.
pub async fn settled() {
    let wait = async {
        while HELD.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(20), wait).await;
}
