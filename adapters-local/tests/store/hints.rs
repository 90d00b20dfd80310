use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::cache::ProcessCache;
use burstflare_adapters_local::feed::LocalFeed;
use burstflare_adapters_local::limit::MemoryRateLimiter;
use burstflare_ports::blob::BlobKey;
use burstflare_ports::cache::Cache;
use burstflare_ports::conformance::{CacheBench, LimiterBench};
use burstflare_ports::feed::Feed;
use burstflare_ports::limit::{RateLimiter, Verdict};
use burstflare_ports::memory::ManualClock;
use burstflare_ports::time::Timestamp;

async fn feed() -> Arc<dyn Feed> {
    Arc::new(LocalFeed::default())
}

burstflare_ports::feed_tests!(
    #[tokio::test]
    feed
);

struct Bench {
    clock: Arc<ManualClock>,
    limiter: MemoryRateLimiter,
}

#[async_trait]
impl LimiterBench for Bench {
    fn limiter(&self) -> &dyn RateLimiter {
        &self.limiter
    }

    async fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
}

fn limiter(capacity: usize) -> Bench {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    Bench { limiter: MemoryRateLimiter::new(clock.clone(), capacity), clock }
}

async fn bench() -> Arc<dyn LimiterBench> {
    Arc::new(limiter(1_000))
}

burstflare_ports::limit_tests!(
    #[tokio::test]
    bench
);

#[tokio::test]
async fn a_limiter_keeps_a_bounded_number_of_buckets() {
    let bench = limiter(100);
    for bucket in 0..10_000 {
        let answer = bench.limiter.take(&format!("{bucket}"), 1, Duration::from_secs(60)).await;
        assert_eq!(answer.expect("an answer"), Verdict::Allowed);
        bench.clock.advance(Duration::from_millis(1));
        assert!(bench.limiter.buckets() <= 100);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_lock_a_bucket() {
    let bench = limiter(100);
    let minute = Duration::from_secs(60);
    bench.limiter.take("a", 1, minute).await.expect("an answer");
    bench.clock.set(Timestamp::from_millis(0));
    assert_eq!(bench.limiter.take("a", 1, minute).await.expect("an answer"), Verdict::Allowed);
}

struct CacheTime {
    clock: Arc<ManualClock>,
    cache: ProcessCache,
}

#[async_trait]
impl CacheBench for CacheTime {
    fn cache(&self) -> &dyn Cache {
        &self.cache
    }

    async fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
}

fn cache(capacity: usize) -> CacheTime {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    CacheTime { cache: ProcessCache::new(clock.clone(), capacity), clock }
}

async fn cache_bench() -> Arc<dyn CacheBench> {
    Arc::new(cache(4 << 20))
}

burstflare_ports::cache_tests!(
    #[tokio::test]
    cache_bench
);

#[tokio::test]
async fn a_cache_keeps_a_bounded_number_of_bytes_and_what_was_looked_at_last() {
    let bench = cache(100_000);
    let key = |number: u32| format!("value/{number}").parse::<BlobKey>().expect("a key");
    let hour = Duration::from_secs(3600);
    bench.cache.put(&key(0), vec![0; 1_000].into(), hour).await.expect("put");
    for number in 1..5_000 {
        let bytes = vec![1; usize::try_from(number % 3_000).expect("small")];
        bench.cache.put(&key(number), bytes.into(), hour).await.expect("put");
        assert!(bench.cache.bytes() <= 100_000, "{} after {number}", bench.cache.bytes());
        assert!(bench.cache.get(&key(0)).await.expect("an answer").is_some(), "looked at all the time");
        assert!(bench.cache.get(&key(number)).await.expect("an answer").is_some(), "the newest");
    }
    assert!(bench.cache.get(&key(1)).await.expect("an answer").is_none(), "long ago");
    // One that does not fit is not kept, and no harm.
    bench.cache.put(&key(1), vec![2; 200_000].into(), hour).await.expect("put");
    assert!(bench.cache.bytes() <= 100_000);
}
