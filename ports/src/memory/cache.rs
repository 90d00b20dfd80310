use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::locked;
use crate::blob::BlobKey;
use crate::cache::{CACHE_LIMIT, Cache, LONGEST};
use crate::clock::Clock;
use crate::error::{ErrorKind, PortError, PortResult};
use crate::time::Timestamp;

/// Every so many values that are put, all are forgotten: nothing may depend on them.
const FORGETS: usize = 5;

/// A cache that forgets often.
pub struct MemoryCache {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    puts: usize,
    values: BTreeMap<BlobKey, (Timestamp, Bytes)>,
}

impl MemoryCache {
    /// Times by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &BlobKey) -> PortResult<Option<Bytes>> {
        let now = self.clock.now();
        Ok(locked(&self.kept).values.get(key).filter(|(end, _)| *end > now).map(|(_, value)| value.clone()))
    }

    async fn put(&self, key: &BlobKey, value: Bytes, keep: Duration) -> PortResult<()> {
        if value.len() > CACHE_LIMIT {
            let text = format!("a cached value has at most {CACHE_LIMIT} bytes");
            return Err(PortError::new(ErrorKind::TooLarge, "cache.put", text));
        }
        let end = self.clock.now().after(keep.min(LONGEST));
        let mut kept = locked(&self.kept);
        kept.puts += 1;
        if kept.puts.is_multiple_of(FORGETS) {
            kept.values.clear();
        } else {
            kept.values.insert(key.clone(), (end, value));
        }
        Ok(())
    }
}
