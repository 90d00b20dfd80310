//! Rate limits by the platform's binding.
//!
//! A binding has one limit and one period (10 or 60 seconds), set at deployment; it counts by key, in fixed periods, at each
//! of the platform's locations by itself, and does not say when a period ends. So a refusal answers the whole period.

use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::limit::{RateLimiter, Verdict};
use worker::Env;

use crate::js::js;

/// Counts by bindings named `RATE_LIMIT_PERIOD`, for example `RATE_60_60`: sixty calls in sixty seconds.
pub struct CloudLimiter {
    env: Env,
}

impl CloudLimiter {
    /// Over the bindings of this deployment.
    #[must_use]
    pub const fn new(env: Env) -> Self {
        Self { env }
    }
}

#[async_trait]
impl RateLimiter for CloudLimiter {
    /// `Unsupported` where no binding has this limit and window.
    async fn take(&self, bucket: &str, limit: u32, window: Duration) -> PortResult<Verdict> {
        let operation = "limit.take";
        let name = format!("RATE_{limit}_{}", window.as_secs());
        let bound = self.env.rate_limiter(&name).map_err(|_| {
            PortError::new(ErrorKind::Unsupported, operation, format!("there is no rate limit {name}"))
        })?;
        let outcome = js(bound.limit(bucket.to_owned()))
            .await
            .map_err(|error| PortError::new(ErrorKind::Unavailable, operation, error.to_string()))?;
        Ok(if outcome.success { Verdict::Allowed } else { Verdict::Wait(window) })
    }
}
