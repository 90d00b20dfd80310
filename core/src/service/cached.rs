//! What is worked out once and kept in the cache, as JSON. A cache that does not answer costs work, and nothing else.

use std::time::Duration;

use burstflare_ports::blob::BlobKey;
use burstflare_ports::cache::CACHE_LIMIT;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ControlPlane;

impl ControlPlane {
    /// The value of a key, where it is kept and can be read: one that another version wrote may not.
    pub(super) async fn cached<T: DeserializeOwned>(&self, key: &BlobKey) -> Option<T> {
        match self.ports().cache.get(key).await {
            Ok(value) => serde_json::from_slice(&value?).ok(),
            Err(error) => {
                tracing::warn!(%key, %error, "the cache does not answer");
                None
            }
        }
    }

    /// Keeps a value, where it is not too large.
    pub(super) async fn keep_cached<T: Serialize + Sync>(&self, key: &BlobKey, value: &T, keep: Duration) {
        let Ok(text) = serde_json::to_vec(value) else { return };
        if text.len() > CACHE_LIMIT {
            return;
        }
        if let Err(error) = self.ports().cache.put(key, text.into(), keep).await {
            tracing::warn!(%key, %error, "the cache keeps nothing");
        }
    }
}
