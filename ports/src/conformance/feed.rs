use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};

use super::{Verdict, cases, ensure};
use crate::feed::Feed;
use crate::id::Id;
use crate::record::Workspace;
use crate::time::Timestamp;

cases! {
    /// The cases of live hints.
    FEED_CASES: dyn Feed, tests feed_tests, dollar $,
    {
        hints::{
            a_listener_is_hinted,
            every_listener_is_hinted,
            other_workspaces_are_not_hinted,
            publishing_waits_for_nobody,
            a_listener_who_left_is_no_error,
            what_was_before_is_not_hinted,
        }
    }
}

fn workspace(seed: u64, which: u8) -> Id<Workspace> {
    let mut random = [which; 10];
    random[..8].copy_from_slice(&seed.to_be_bytes());
    Id::new(Timestamp::from_millis(1), random)
}

mod hints {
    use super::*;

    pub(super) async fn a_listener_is_hinted(feed: Arc<dyn Feed>, seed: u64) -> Verdict {
        let mut hints = feed.subscribe(workspace(seed, 1)).await?;
        feed.publish(workspace(seed, 1)).await?;
        ensure!(hints.next().await.is_some(), "the first hint");
        feed.publish(workspace(seed, 1)).await?;
        ensure!(hints.next().await.is_some(), "the second hint");
        Ok(())
    }

    pub(super) async fn every_listener_is_hinted(feed: Arc<dyn Feed>, seed: u64) -> Verdict {
        let mut one = feed.subscribe(workspace(seed, 1)).await?;
        let mut two = feed.subscribe(workspace(seed, 1)).await?;
        feed.publish(workspace(seed, 1)).await?;
        ensure!(one.next().await.is_some(), "the first listener");
        ensure!(two.next().await.is_some(), "the second listener");
        Ok(())
    }

    pub(super) async fn other_workspaces_are_not_hinted(feed: Arc<dyn Feed>, seed: u64) -> Verdict {
        let mut other = feed.subscribe(workspace(seed, 2)).await?;
        let mut own = feed.subscribe(workspace(seed, 1)).await?;
        feed.publish(workspace(seed, 1)).await?;
        ensure!(own.next().await.is_some(), "the own listener");
        ensure!(other.next().now_or_never().is_none(), "another workspace's listener was hinted");
        Ok(())
    }

    pub(super) async fn publishing_waits_for_nobody(feed: Arc<dyn Feed>, seed: u64) -> Verdict {
        let mut hints = feed.subscribe(workspace(seed, 1)).await?;
        for _ in 0..10_000 {
            feed.publish(workspace(seed, 1)).await?;
        }
        ensure!(hints.next().await.is_some(), "at least one of many hints");
        Ok(())
    }

    pub(super) async fn a_listener_who_left_is_no_error(feed: Arc<dyn Feed>, seed: u64) -> Verdict {
        drop(feed.subscribe(workspace(seed, 1)).await?);
        feed.publish(workspace(seed, 1)).await?;
        let mut hints = feed.subscribe(workspace(seed, 1)).await?;
        feed.publish(workspace(seed, 1)).await?;
        ensure!(hints.next().await.is_some(), "a listener behind one who left");
        Ok(())
    }

    pub(super) async fn what_was_before_is_not_hinted(feed: Arc<dyn Feed>, seed: u64) -> Verdict {
        let first = feed.subscribe(workspace(seed, 1)).await?;
        feed.publish(workspace(seed, 1)).await?;
        let mut hints = feed.subscribe(workspace(seed, 1)).await?;
        ensure!(hints.next().now_or_never().is_none(), "a hint from before");
        drop(first);
        Ok(())
    }
}
