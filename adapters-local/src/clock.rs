//! The system's time and randomness.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use burstflare_ports::clock::{Clock, Entropy};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::time::Timestamp;

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) -> PortResult<()> {
        getrandom::fill(buffer).map_err(|error| {
            PortError::new(ErrorKind::Unavailable, "entropy.fill", "the system gives no randomness")
                .with_source(error)
        })
    }
}
