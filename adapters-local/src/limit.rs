//! Rate limits within one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::clock::Clock;
use burstflare_ports::error::PortResult;
use burstflare_ports::limit::{RateLimiter, Verdict};
use burstflare_ports::time::Timestamp;

use crate::tasks::locked;

/// Counts in fixed windows, for a bounded number of buckets: when there are more, those whose windows end first
/// are forgotten, which lets some calls through and never keeps memory.
pub struct MemoryRateLimiter {
    clock: Arc<dyn Clock>,
    capacity: usize,
    buckets: Mutex<HashMap<String, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    ends_at: Timestamp,
    calls: u32,
}

impl MemoryRateLimiter {
    /// Remembers at most `capacity` buckets.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        Self { clock, capacity: capacity.max(4), buckets: Mutex::new(HashMap::new()) }
    }

    /// How many buckets are remembered.
    #[must_use]
    pub fn buckets(&self) -> usize {
        locked(&self.buckets).len()
    }
}

#[async_trait]
impl RateLimiter for MemoryRateLimiter {
    async fn take(&self, bucket: &str, limit: u32, window: Duration) -> PortResult<Verdict> {
        let now = self.clock.now();
        let mut buckets = locked(&self.buckets);
        if buckets.len() >= self.capacity && !buckets.contains_key(bucket) {
            make_room(&mut buckets, now, self.capacity);
        }
        let fresh = Window { ends_at: now.after(window), calls: 0 };
        let current = buckets.entry(bucket.to_owned()).or_insert(fresh);
        // A window that ends later than one begun now was begun before the host's clock was set back.
        if current.ends_at <= now || current.ends_at > fresh.ends_at {
            *current = fresh;
        }
        if current.calls >= limit {
            return Ok(Verdict::Wait(current.ends_at.since(now)));
        }
        current.calls += 1;
        Ok(Verdict::Allowed)
    }
}

/// Forgets at least a quarter, so that the cost is shared by the calls that fill it again.
fn make_room(buckets: &mut HashMap<String, Window>, now: Timestamp, capacity: usize) {
    buckets.retain(|_, window| window.ends_at > now);
    let keep = capacity - capacity / 4;
    if buckets.len() > keep {
        let mut ends: Vec<_> = buckets.values().map(|window| window.ends_at).collect();
        let surplus = buckets.len() - keep;
        let (_, last, _) = ends.select_nth_unstable(surplus - 1);
        let last = *last;
        let mut left = surplus;
        buckets.retain(|_, window| {
            let goes = left > 0 && window.ends_at <= last;
            left -= usize::from(goes);
            !goes
        });
    }
}
