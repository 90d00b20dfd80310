//! Workers KV as a cache. Cloudflare's documentation: KV, "How KV works": reads are cached at each location, so an older
//! value, or the absence of one, may be answered for a minute after a write; a key takes one write a second.
//!
//! A value is `when its time is over, in milliseconds since 1970, as 8 bytes, little endian | the bytes`: the platform's own
//! expiry begins at a minute, and is late.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::blob::BlobKey;
use burstflare_ports::cache::{CACHE_LIMIT, Cache, LONGEST};
use burstflare_ports::clock::Clock;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use bytes::Bytes;
use worker::kv::{KvError, KvStore};
use worker::send::SendWrapper;

use crate::js::{js, within};

/// How long the platform may take: what is cached can be worked out.
const DEADLINE: Duration = Duration::from_secs(5);
/// The shortest time the platform keeps a value.
const SHORTEST: Duration = Duration::from_secs(60);

/// A namespace of KV.
pub struct CloudCache {
    store: SendWrapper<KvStore>,
    clock: Arc<dyn Clock>,
}

impl CloudCache {
    /// In this namespace, by this clock.
    #[must_use]
    pub fn new(store: KvStore, clock: Arc<dyn Clock>) -> Self {
        Self { store: SendWrapper::new(store), clock }
    }
}

impl std::fmt::Debug for CloudCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudCache").finish_non_exhaustive()
    }
}

#[async_trait]
impl Cache for CloudCache {
    async fn get(&self, key: &BlobKey) -> PortResult<Option<Bytes>> {
        const GET: &str = "cache.get";
        let found = js(within(DEADLINE, self.store.get(key.as_str()).bytes())).await;
        let Some(value) = found.ok_or_else(|| late(GET))?.map_err(|error| failed(GET, &error))? else {
            return Ok(None);
        };
        let value = Bytes::from(value);
        let Some((end, _)) = value.split_first_chunk() else { return Ok(None) };
        Ok((i64::from_le_bytes(*end) > self.clock.now().millis()).then(|| value.slice(size_of::<i64>()..)))
    }

    async fn put(&self, key: &BlobKey, value: Bytes, keep: Duration) -> PortResult<()> {
        const PUT: &str = "cache.put";
        if value.len() > CACHE_LIMIT {
            let text = format!("a cached value has at most {CACHE_LIMIT} bytes");
            return Err(PortError::new(ErrorKind::TooLarge, PUT, text));
        }
        let keep = keep.min(LONGEST);
        let mut bytes = self.clock.now().after(keep).millis().to_le_bytes().to_vec();
        bytes.extend_from_slice(&value);
        let put = self
            .store
            .put_bytes(key.as_str(), &bytes)
            .map_err(|error| failed(PUT, &error))?
            .expiration_ttl(keep.max(SHORTEST).as_secs());
        js(within(DEADLINE, put.execute()))
            .await
            .ok_or_else(|| late(PUT))?
            .map_err(|error| failed(PUT, &error))
    }
}

fn late(operation: &'static str) -> PortError {
    PortError::new(ErrorKind::Timeout, operation, "KV did not answer in time")
}

fn failed(operation: &'static str, error: &KvError) -> PortError {
    PortError::new(ErrorKind::Unavailable, operation, error.to_string())
}
