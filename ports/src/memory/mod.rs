//! Backends in memory: deterministic, without a runtime, and stricter than production.
//!
//! Nothing here runs by itself. The clock stands until it is moved; the queue, the workflow engine and the
//! actors keep what is pending and hand it out to whoever drives them: a test, or a simulation that decides what happens
//! next. All orders are those of keys and numbers, so the same calls give the same answers.

mod actors;
mod blobs;
mod cache;
mod clock;
mod feed;
mod limit;
mod queue;
mod store;
mod workflow;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use actors::MemoryActors;
pub use blobs::MemoryBlobs;
pub use cache::MemoryCache;
pub use clock::{ManualClock, SeededEntropy};
pub use feed::MemoryFeed;
pub use limit::MemoryLimiter;
pub use queue::{Delivery, Fate, MemoryQueue};
pub use store::MemoryStore;
pub use workflow::MemoryWorkflows;

/// No holder of these locks leaves half a change behind: they move whole values only.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
