use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Verdict, cases, ensure, same};
use crate::limit::{RateLimiter, Verdict as Answer};

/// A limiter whose time the case moves.
#[async_trait]
pub trait LimiterBench: Send + Sync + 'static {
    /// The limiter.
    fn limiter(&self) -> &dyn RateLimiter;
    /// Lets so much time pass for it.
    async fn pass(&self, span: Duration);
}

cases! {
    /// The cases of rate limits.
    LIMIT_CASES: dyn LimiterBench, tests limit_tests, dollar $,
    {
        windows::{
            calls_up_to_the_limit_are_allowed,
            the_wait_ends_with_the_window,
            buckets_are_apart,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

mod windows {
    use super::*;

    pub(super) async fn calls_up_to_the_limit_are_allowed(
        bench: Arc<dyn LimiterBench>,
        seed: u64,
    ) -> Verdict {
        let bucket = format!("limit {seed}");
        for call in 0..3 {
            same!(bench.limiter().take(&bucket, 3, MINUTE).await?, Answer::Allowed, "call {call}");
        }
        let answer = bench.limiter().take(&bucket, 3, MINUTE).await?;
        ensure!(matches!(answer, Answer::Wait(_)), "the fourth of three calls is {answer:?}");
        Ok(())
    }

    pub(super) async fn the_wait_ends_with_the_window(bench: Arc<dyn LimiterBench>, seed: u64) -> Verdict {
        let bucket = format!("window {seed}");
        same!(bench.limiter().take(&bucket, 1, MINUTE).await?, Answer::Allowed, "the first call");
        let Answer::Wait(wait) = bench.limiter().take(&bucket, 1, MINUTE).await? else {
            return Err(super::super::Finding("the second call is allowed".to_owned()));
        };
        ensure!(wait > Duration::ZERO && wait <= MINUTE, "a wait of {wait:?}");
        bench.pass(wait).await;
        same!(bench.limiter().take(&bucket, 1, MINUTE).await?, Answer::Allowed, "behind the window");
        Ok(())
    }

    pub(super) async fn buckets_are_apart(bench: Arc<dyn LimiterBench>, seed: u64) -> Verdict {
        let (one, two) = (format!("one {seed}"), format!("two {seed}"));
        same!(bench.limiter().take(&one, 1, MINUTE).await?, Answer::Allowed, "one bucket");
        same!(bench.limiter().take(&two, 1, MINUTE).await?, Answer::Allowed, "another bucket");
        Ok(())
    }
}
