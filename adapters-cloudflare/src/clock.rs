//! The Worker's time and randomness.

use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::clock::{Clock, Entropy};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::time::Timestamp;

use crate::js::js;

/// The isolate's clock. The platform lets it stand still while code runs and move on at I/O.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerClock;

#[async_trait]
impl Clock for WorkerClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(worker::Date::now().as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep(&self, span: Duration) {
        js(worker::Delay::from(span)).await;
    }
}

/// `crypto.getRandomValues`.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerEntropy;

impl Entropy for WorkerEntropy {
    fn fill(&self, buffer: &mut [u8]) -> PortResult<()> {
        getrandom::fill(buffer)
            .map_err(|error| PortError::new(ErrorKind::Unavailable, "entropy.fill", error.to_string()))
    }
}
