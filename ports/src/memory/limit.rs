use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::locked;
use crate::clock::Clock;
use crate::error::PortResult;
use crate::limit::{RateLimiter, Verdict};
use crate::time::Timestamp;

/// Counts in fixed windows, and forgets nothing: for tests alone.
pub struct MemoryLimiter {
    clock: Arc<dyn Clock>,
    windows: Mutex<BTreeMap<String, (Timestamp, u32)>>,
}

impl MemoryLimiter {
    /// Windows by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, windows: Mutex::new(BTreeMap::new()) }
    }
}

#[async_trait]
impl RateLimiter for MemoryLimiter {
    async fn take(&self, bucket: &str, limit: u32, window: Duration) -> PortResult<Verdict> {
        let now = self.clock.now();
        let mut windows = locked(&self.windows);
        let (ends_at, calls) = windows.entry(bucket.to_owned()).or_insert((now.after(window), 0));
        if *ends_at <= now {
            (*ends_at, *calls) = (now.after(window), 0);
        }
        if *calls >= limit {
            return Ok(Verdict::Wait(ends_at.since(now)));
        }
        *calls += 1;
        Ok(Verdict::Allowed)
    }
}
