//! Rate limits.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::PortResult;

/// What the limiter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// Too many; try after this time.
    Wait(Duration),
}

/// Counts calls by bucket in fixed windows. Approximate across hosts; quotas and single use are never decided here.
#[async_trait]
pub trait RateLimiter: Send + Sync + 'static {
    /// Counts one call of `bucket` against `limit` calls per `window`.
    async fn take(&self, bucket: &str, limit: u32, window: Duration) -> PortResult<Verdict>;
}
