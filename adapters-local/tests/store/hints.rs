use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::feed::LocalFeed;
use burstflare_adapters_local::limit::MemoryRateLimiter;
use burstflare_ports::conformance::LimiterBench;
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
