//! A cache: what was worked out from what never changes, and hints that may be lost.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::blob::BlobKey;
use crate::error::PortResult;

/// The largest value, in bytes.
pub const CACHE_LIMIT: usize = 1 << 20;
/// The longest that a value is kept.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Keeps values for a while, if at all.
///
/// A value may be gone at any moment, and for a minute or so after a `put` the key's earlier value may be answered, or
/// none. So a key holds either what can only ever be this value, or something that is harmless when it is old; never
/// what can be revoked, used once, or counted.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// The value of a key, if it is there and its time is not over.
    async fn get(&self, key: &BlobKey) -> PortResult<Option<Bytes>>;

    /// Keeps a value for so long, [`LONGEST`] at most. `TooLarge` above [`CACHE_LIMIT`].
    async fn put(&self, key: &BlobKey, value: Bytes, keep: Duration) -> PortResult<()>;
}
