//! The conformance suite over the backends in memory.
#![expect(clippy::expect_used, reason = "a test says what it relies on")]

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::cache::Cache;
use burstflare_ports::clock::Clock;
use burstflare_ports::conformance::{CacheBench, LimiterBench, QueueBench};
use burstflare_ports::drive::JobHandler;
use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::limit::RateLimiter;
use burstflare_ports::memory::{
    Fate, ManualClock, MemoryBlobs, MemoryCache, MemoryFeed, MemoryLimiter, MemoryQueue, MemoryStore,
};
use burstflare_ports::queue::Queue;
use burstflare_ports::time::Timestamp;
use futures_util::FutureExt;

mod store {
    use super::*;

    async fn store() -> Arc<dyn burstflare_ports::store::Store> {
        Arc::new(MemoryStore::new())
    }
    burstflare_ports::store_tests!(
        #[tokio::test]
        store
    );
}

mod blobs {
    use super::*;

    async fn blobs() -> Arc<dyn burstflare_ports::blob::Blobs> {
        Arc::new(MemoryBlobs::default())
    }
    burstflare_ports::blob_tests!(
        #[tokio::test]
        blobs
    );
}

mod feed {
    use super::*;

    async fn feed() -> Arc<dyn burstflare_ports::feed::Feed> {
        Arc::new(MemoryFeed::default())
    }
    burstflare_ports::feed_tests!(
        #[tokio::test]
        feed
    );
}

mod cache {
    use super::*;

    struct Bench {
        clock: ManualClock,
        cache: MemoryCache,
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

    async fn bench() -> Arc<dyn CacheBench> {
        let clock = ManualClock::new(Timestamp::from_millis(1_000));
        Arc::new(Bench { cache: MemoryCache::new(Arc::new(clock.clone())), clock })
    }
    burstflare_ports::cache_tests!(
        #[tokio::test]
        bench
    );
}

mod limit {
    use super::*;

    struct Bench {
        clock: ManualClock,
        limiter: MemoryLimiter,
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

    async fn bench() -> Arc<dyn LimiterBench> {
        let clock = ManualClock::new(Timestamp::from_millis(1_000));
        Arc::new(Bench { limiter: MemoryLimiter::new(Arc::new(clock.clone())), clock })
    }
    burstflare_ports::limit_tests!(
        #[tokio::test]
        bench
    );
}

mod queue {
    use super::*;

    /// Drives the queue as a host would.
    struct Bench {
        clock: ManualClock,
        queue: MemoryQueue,
        handler: Mutex<Option<Arc<dyn JobHandler>>>,
    }

    impl Bench {
        async fn deliver(&self) {
            let Some(handler) = self.handler.lock().expect("no panic").clone() else { return };
            while let Some(delivery) = self.queue.take_due(self.clock.now()) {
                let handled =
                    AssertUnwindSafe(handler.handle(&delivery.job, delivery.attempt)).catch_unwind().await;
                let outcome = handled.unwrap_or_else(|_| {
                    Err(PortError::new(ErrorKind::Internal, "queue.handle", "it panicked"))
                });
                if self.queue.finish(delivery.number, &outcome, self.clock.now()) == Fate::Dead {
                    handler.dead(&delivery.job).await.expect("set aside");
                }
            }
        }
    }

    #[async_trait]
    impl QueueBench for Bench {
        fn queue(&self) -> &dyn Queue {
            &self.queue
        }
        async fn run(&self, handler: Arc<dyn JobHandler>) {
            *self.handler.lock().expect("no panic") = Some(handler);
        }
        async fn pass(&self, span: Duration) {
            self.deliver().await;
            self.clock.advance(span);
            self.deliver().await;
        }
    }

    async fn bench() -> Arc<dyn QueueBench> {
        let clock = ManualClock::new(Timestamp::from_millis(1_000));
        let queue = MemoryQueue::new(Arc::new(clock.clone()));
        Arc::new(Bench { clock, queue, handler: Mutex::new(None) })
    }
    burstflare_ports::queue_tests!(
        #[tokio::test]
        bench
    );
}
