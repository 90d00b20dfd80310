//! A cache within one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::blob::BlobKey;
use burstflare_ports::cache::{CACHE_LIMIT, Cache, LONGEST};
use burstflare_ports::clock::Clock;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::time::Timestamp;
use bytes::Bytes;

use crate::tasks::locked;

/// What an entry costs besides its value, about.
const ENTRY: usize = 256;

/// Keeps so many bytes. When there are more, the values that were looked at longest ago are forgotten.
pub struct ProcessCache {
    clock: Arc<dyn Clock>,
    capacity: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    values: HashMap<BlobKey, Value>,
    bytes: usize,
    /// Counts looks.
    turn: u64,
}

#[derive(Debug)]
struct Value {
    bytes: Bytes,
    ends_at: Timestamp,
    looked_at: u64,
}

impl ProcessCache {
    /// Keeps at most `capacity` bytes.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        Self { clock, capacity, kept: Mutex::default() }
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        locked(&self.kept).bytes
    }
}

impl Kept {
    fn remove(&mut self, key: &BlobKey) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= value.bytes.len() + ENTRY;
        }
    }

    /// Forgets what is over, then the older half, until the rest fits: the cost is shared by the calls that fill it again.
    fn make_room(&mut self, now: Timestamp, capacity: usize) {
        self.values.retain(|_, value| value.ends_at > now);
        let mut looks: Vec<_> = self.values.values().map(|value| value.looked_at).collect();
        looks.sort_unstable();
        let mut looks = &looks[..];
        loop {
            self.bytes = self.values.values().map(|value| value.bytes.len() + ENTRY).sum();
            if self.bytes <= capacity || looks.is_empty() {
                return;
            }
            let (older, newer) = looks.split_at(looks.len().div_ceil(2));
            let last = older.last().copied().unwrap_or_default();
            self.values.retain(|_, value| value.looked_at > last);
            looks = newer;
        }
    }
}

#[async_trait]
impl Cache for ProcessCache {
    async fn get(&self, key: &BlobKey) -> PortResult<Option<Bytes>> {
        let now = self.clock.now();
        let mut kept = locked(&self.kept);
        kept.turn += 1;
        let turn = kept.turn;
        if let Some(value) = kept.values.get_mut(key).filter(|value| value.ends_at > now) {
            value.looked_at = turn;
            return Ok(Some(value.bytes.clone()));
        }
        kept.remove(key);
        Ok(None)
    }

    async fn put(&self, key: &BlobKey, value: Bytes, keep: Duration) -> PortResult<()> {
        if value.len() > CACHE_LIMIT {
            let text = format!("a cached value has at most {CACHE_LIMIT} bytes");
            return Err(PortError::new(ErrorKind::TooLarge, "cache.put", text));
        }
        let now = self.clock.now();
        let mut kept = locked(&self.kept);
        kept.remove(key);
        kept.turn += 1;
        kept.bytes += value.len() + ENTRY;
        let value = Value { bytes: value, ends_at: now.after(keep.min(LONGEST)), looked_at: kept.turn };
        kept.values.insert(key.clone(), value);
        if kept.bytes > self.capacity {
            kept.make_room(now, self.capacity);
        }
        Ok(())
    }
}
