//! The cases of caches, on KV. Time passes by the cache's own clock: the platform's does not move.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_cloudflare::{CloudCache, WorkerClock};
use burstflare_ports::cache::Cache;
use burstflare_ports::clock::Clock as _;
use burstflare_ports::conformance::{CACHE_CASES, CacheBench, Verdict, case};
use burstflare_ports::memory::ManualClock;
use worker::{Env, Result};

struct Bench {
    cache: CloudCache,
    clock: ManualClock,
}

#[async_trait]
impl CacheBench for Bench {
    fn cache(&self) -> &dyn Cache {
        &self.cache
    }

    async fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
}

/// Runs a case; none where there is none.
pub(crate) async fn run(name: &str, env: &Env, seed: u64) -> Result<Option<Verdict>> {
    let Some(case) = case(CACHE_CASES, name) else { return Ok(None) };
    let clock = ManualClock::new(WorkerClock.now());
    let cache = CloudCache::new(env.kv("CACHE")?, Arc::new(clock.clone()));
    Ok(Some((case.run)(Arc::new(Bench { cache, clock }), seed).await))
}
