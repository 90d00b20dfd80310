use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Finding, Verdict, cases, ensure, same};
use crate::blob::BlobKey;
use crate::cache::{CACHE_LIMIT, Cache};
use crate::error::ErrorKind;

/// A cache whose time the case moves.
#[async_trait]
pub trait CacheBench: Send + Sync + 'static {
    /// The cache.
    fn cache(&self) -> &dyn Cache;
    /// Lets so much time pass for it.
    async fn pass(&self, span: Duration);
}

cases! {
    /// The cases of caches.
    CACHE_CASES: dyn CacheBench, tests cache_tests, dollar $,
    {
        values::{
            what_is_put_is_found,
            the_last_value_counts,
            keys_are_apart,
            nothing_is_found_behind_its_time,
            any_bytes_up_to_the_limit_are_kept,
            larger_values_are_refused,
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
/// A cache may forget, but not always.
const TRIES: usize = 10;

fn key(name: &str, seed: u64) -> Result<BlobKey, Finding> {
    format!("case/{name}/{seed}").parse().map_err(|_| Finding("the case's key".to_owned()))
}

/// Puts a value until it is found, and nothing else is.
async fn kept(bench: &dyn CacheBench, key: &BlobKey, value: &Bytes) -> Verdict {
    for _ in 0..TRIES {
        bench.cache().put(key, value.clone(), HOUR).await?;
        if let Some(found) = bench.cache().get(key).await? {
            ensure!(found == *value, "another value of {} bytes is found", found.len());
            return Ok(());
        }
    }
    Err(Finding(format!("{TRIES} times put and never found")))
}

mod values {
    use super::*;

    pub(super) async fn what_is_put_is_found(bench: Arc<dyn CacheBench>, seed: u64) -> Verdict {
        let key = key("found", seed)?;
        same!(bench.cache().get(&key).await?, None, "before it was put");
        kept(&*bench, &key, &Bytes::from_static(b"value")).await
    }

    pub(super) async fn the_last_value_counts(bench: Arc<dyn CacheBench>, seed: u64) -> Verdict {
        let key = key("last", seed)?;
        kept(&*bench, &key, &Bytes::from_static(b"first")).await?;
        kept(&*bench, &key, &Bytes::from_static(b"second")).await
    }

    pub(super) async fn keys_are_apart(bench: Arc<dyn CacheBench>, seed: u64) -> Verdict {
        let (one, two) = (key("one", seed)?, key("one/two", seed)?);
        kept(&*bench, &one, &Bytes::from_static(b"one")).await?;
        same!(bench.cache().get(&two).await?, None, "another key");
        kept(&*bench, &two, &Bytes::from_static(b"two")).await?;
        let found = bench.cache().get(&one).await?;
        ensure!(found.is_none_or(|found| &found[..] == b"one"), "one key's value under the other");
        Ok(())
    }

    pub(super) async fn nothing_is_found_behind_its_time(bench: Arc<dyn CacheBench>, seed: u64) -> Verdict {
        let key = key("time", seed)?;
        kept(&*bench, &key, &Bytes::from_static(b"value")).await?;
        bench.pass(HOUR).await;
        same!(bench.cache().get(&key).await?, None, "when its hour is over");
        kept(&*bench, &key, &Bytes::from_static(b"anew")).await
    }

    pub(super) async fn any_bytes_up_to_the_limit_are_kept(bench: Arc<dyn CacheBench>, seed: u64) -> Verdict {
        kept(&*bench, &key("empty", seed)?, &Bytes::new()).await?;
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(CACHE_LIMIT).collect();
        kept(&*bench, &key("large", seed)?, &bytes.into()).await
    }

    pub(super) async fn larger_values_are_refused(bench: Arc<dyn CacheBench>, seed: u64) -> Verdict {
        let key = key("larger", seed)?;
        let put = bench.cache().put(&key, vec![0; CACHE_LIMIT + 1].into(), HOUR).await;
        same!(put.map_err(|error| error.kind()), Err(ErrorKind::TooLarge), "the answer");
        same!(bench.cache().get(&key).await?, None, "afterwards");
        Ok(())
    }
}
