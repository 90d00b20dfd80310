//! The cases of rate limits, on the platform's binding, whose minute is ten seconds here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_cloudflare::{CloudLimiter, js};
use burstflare_ports::conformance::{LIMIT_CASES, LimiterBench, Verdict, case};
use burstflare_ports::error::PortResult;
use burstflare_ports::limit::{RateLimiter, Verdict as Answer};
use worker::{Delay, Env};

const SHORTER: u32 = 6;

struct Bench {
    limiter: CloudLimiter,
}

#[async_trait]
impl RateLimiter for Bench {
    async fn take(&self, bucket: &str, limit: u32, window: Duration) -> PortResult<Answer> {
        Ok(match self.limiter.take(bucket, limit, window / SHORTER).await? {
            Answer::Wait(wait) => Answer::Wait(wait * SHORTER),
            allowed => allowed,
        })
    }
}

#[async_trait]
impl LimiterBench for Bench {
    fn limiter(&self) -> &dyn RateLimiter {
        self
    }

    async fn pass(&self, span: Duration) {
        js(Delay::from(span / SHORTER)).await;
    }
}

/// Runs a case; none where there is none.
pub(crate) async fn run(name: &str, env: &Env, seed: u64) -> Option<Verdict> {
    let case = case(LIMIT_CASES, name)?;
    Some((case.run)(Arc::new(Bench { limiter: CloudLimiter::new(env.clone()) }), seed).await)
}
