use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{Finding, Verdict, cases, ensure, same};
use crate::blob::{BlobKey, Blobs};
use crate::error::{ErrorKind, PortError, PortResult};
use crate::stream::Body;

cases! {
    /// The cases of blobs.
    BLOB_CASES: dyn Blobs, tests blob_tests, dollar $,
    {
        whole::{
            a_blob_is_read_back_as_it_was_put,
            an_empty_blob_is_a_blob,
            a_large_blob_comes_in_bounded_chunks,
            a_missing_blob_is_not_found,
            a_second_put_replaces,
            a_deleted_blob_is_gone,
            a_body_over_its_limit_leaves_nothing,
            a_body_that_breaks_leaves_nothing,
            a_put_that_is_given_up_leaves_nothing,
            a_key_and_a_longer_key_below_it_are_two_blobs,
        }
        ranges::{
            a_range_is_read,
            a_range_outside_is_invalid,
        }
        listing::{
            keys_are_listed_in_order_in_pages,
            a_prefix_is_whole_segments,
        }
    }
}

fn key(seed: u64, rest: &str) -> Result<BlobKey, Finding> {
    format!("case/{seed:x}/{rest}").parse().map_err(|_| Finding(format!("no key: {rest}")))
}

/// Bytes that differ from place to place.
fn bytes(length: usize) -> Bytes {
    (0..length).map(|place| (place.wrapping_mul(31) >> 3).to_le_bytes()[0]).collect()
}

fn flow(chunks: Vec<PortResult<Bytes>>) -> Body {
    Body::Stream(Box::pin(stream::iter(chunks)))
}

async fn read(blobs: &dyn Blobs, key: &BlobKey) -> Result<Bytes, Finding> {
    let (info, body) = blobs.get(key, None).await?;
    let all = Body::Stream(body).collect(1 << 30, "case").await?;
    same!(info.size, all.len() as u64, "the size of {key}");
    same!(info.blake3, blake3::hash(&all).to_hex().to_string(), "the digest of {key}");
    Ok(all)
}

mod whole {
    use super::*;

    pub(super) async fn a_blob_is_read_back_as_it_was_put(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "layers/ab12.tar.zst")?;
        let parts = vec![Ok(bytes(10)), Ok(Bytes::new()), Ok(bytes(100_000))];
        let whole = [bytes(10), bytes(100_000)].concat();
        let info = blobs.put(&key, flow(parts), 100_010).await?;
        same!(info.size, 100_010, "the size");
        same!(info.blake3, blake3::hash(&whole).to_hex().to_string(), "the digest");
        same!(blobs.head(&key).await?, Some(info), "what head says");
        ensure!(read(blobs.as_ref(), &key).await? == whole, "other bytes came back");
        Ok(())
    }

    pub(super) async fn an_empty_blob_is_a_blob(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "empty")?;
        blobs.put(&key, Body::empty(), 0).await?;
        same!(blobs.head(&key).await?.map(|info| info.size), Some(0), "its size");
        same!(read(blobs.as_ref(), &key).await?.len(), 0, "its bytes");
        Ok(())
    }

    pub(super) async fn a_large_blob_comes_in_bounded_chunks(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "large")?;
        let whole = bytes(9 << 20);
        blobs.put(&key, Body::Full(whole.clone()), 9 << 20).await?;
        let (_, mut body) = blobs.get(&key, None).await?;
        let mut at = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            ensure!(chunk.len() <= 8 << 20, "a chunk of {} bytes", chunk.len());
            ensure!(whole.get(at..at + chunk.len()) == Some(&chunk), "other bytes behind {at}");
            at += chunk.len();
        }
        same!(at, whole.len(), "bytes");
        Ok(())
    }

    pub(super) async fn a_missing_blob_is_not_found(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "missing")?;
        same!(blobs.head(&key).await?, None, "what head says");
        same!(blobs.get(&key, None).await.err().map(|error| error.kind()), Some(ErrorKind::NotFound), "get");
        blobs.delete(&key).await?;
        Ok(())
    }

    pub(super) async fn a_second_put_replaces(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "twice")?;
        blobs.put(&key, Body::Full(bytes(5_000)), 5_000).await?;
        blobs.put(&key, Body::Full(bytes(7)), 7).await?;
        same!(read(blobs.as_ref(), &key).await?, bytes(7), "the bytes");
        Ok(())
    }

    pub(super) async fn a_deleted_blob_is_gone(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let (gone, kept) = (key(seed, "d/gone")?, key(seed, "d/kept")?);
        blobs.put(&gone, Body::Full(bytes(5)), 5).await?;
        blobs.put(&kept, Body::Full(bytes(5)), 5).await?;
        blobs.delete(&gone).await?;
        blobs.delete(&gone).await?;
        same!(blobs.head(&gone).await?, None, "the deleted one");
        ensure!(blobs.head(&kept).await?.is_some(), "the other one");
        blobs.delete(&kept).await?;
        blobs.put(&gone, Body::Full(bytes(6)), 6).await?;
        same!(read(blobs.as_ref(), &gone).await?, bytes(6), "put again");
        Ok(())
    }

    pub(super) async fn a_body_over_its_limit_leaves_nothing(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "over")?;
        let parts = vec![Ok(bytes(600_000)), Ok(bytes(400_001))];
        for body in [flow(parts), Body::Full(bytes(1_000_001))] {
            let answer = blobs.put(&key, body, 1_000_000).await;
            same!(answer.err().map(|error| error.kind()), Some(ErrorKind::TooLarge), "the answer");
            same!(blobs.head(&key).await?, None, "what is there");
        }
        // A refused body leaves alone what was there before.
        blobs.put(&key, Body::Full(bytes(3)), 3).await?;
        ensure!(blobs.put(&key, Body::Full(bytes(4)), 3).await.is_err(), "one byte more is refused");
        same!(read(blobs.as_ref(), &key).await?, bytes(3), "the bytes from before");
        Ok(())
    }

    pub(super) async fn a_body_that_breaks_leaves_nothing(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "broken")?;
        let broken = PortError::new(ErrorKind::Timeout, "case.body", "the sender went away");
        let answer = blobs.put(&key, flow(vec![Ok(bytes(700_000)), Err(broken)]), 1 << 20).await;
        same!(answer.err().map(|error| error.kind()), Some(ErrorKind::Timeout), "the body's own error");
        same!(blobs.head(&key).await?, None, "what is there");
        Ok(())
    }

    pub(super) async fn a_put_that_is_given_up_leaves_nothing(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "given-up")?;
        let endless = stream::iter([Ok(bytes(300_000))]).chain(stream::pending());
        {
            // The body never ends, so it is the caller who ends it.
            let mut put = std::pin::pin!(blobs.put(&key, Body::Stream(Box::pin(endless)), 1 << 20));
            for _ in 0..32 {
                ensure!(futures_util::poll!(put.as_mut()).is_pending(), "the put ended without its body");
            }
        }
        same!(blobs.head(&key).await?, None, "what is there");
        Ok(())
    }

    pub(super) async fn a_key_and_a_longer_key_below_it_are_two_blobs(
        blobs: Arc<dyn Blobs>,
        seed: u64,
    ) -> Verdict {
        let (short, long) = (key(seed, "a")?, key(seed, "a/b")?);
        blobs.put(&short, Body::Full(bytes(1)), 1).await?;
        blobs.put(&long, Body::Full(bytes(2)), 2).await?;
        same!(read(blobs.as_ref(), &short).await?, bytes(1), "the short one");
        blobs.delete(&short).await?;
        same!(read(blobs.as_ref(), &long).await?, bytes(2), "the long one");
        Ok(())
    }
}

mod ranges {
    use super::*;

    pub(super) async fn a_range_is_read(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "ranged")?;
        let whole = bytes(600_000);
        blobs.put(&key, Body::Full(whole.clone()), 600_000).await?;
        for range in [0..1, 0..600_000, 599_999..600_000, 255_000..530_000, 5..5, 600_000..600_000] {
            let (info, body) = blobs.get(&key, Some(range.clone())).await?;
            same!(info.size, 600_000, "the size of the whole");
            let found = Body::Stream(body).collect(1 << 20, "case").await?;
            let wanted = usize::try_from(range.start)
                .ok()
                .zip(usize::try_from(range.end).ok())
                .and_then(|(start, end)| whole.get(start..end));
            ensure!(wanted == Some(found.as_ref()), "other bytes in {range:?}");
        }
        Ok(())
    }

    pub(super) async fn a_range_outside_is_invalid(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let key = key(seed, "outside")?;
        blobs.put(&key, Body::Full(bytes(10)), 10).await?;
        #[expect(clippy::reversed_empty_ranges, reason = "it is one of the refused ones")]
        for range in [0..11, 11..12, 8..7, u64::MAX..u64::MAX] {
            let answer = blobs.get(&key, Some(range.clone())).await;
            same!(answer.err().map(|error| error.kind()), Some(ErrorKind::Invalid), "{range:?} of 10");
        }
        Ok(())
    }
}

mod listing {
    use super::*;

    pub(super) async fn keys_are_listed_in_order_in_pages(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        let names =
            ["l/a", "l/a-b", "l/a.b", "l/a/b", "l/a/b/c", "l/a0", "l/aa/z", "l/b", "l/B", "l/10", "l/9"];
        let mut wanted = Vec::new();
        for name in names {
            let key = key(seed, name)?;
            blobs.put(&key, Body::Full(bytes(1)), 1).await?;
            wanted.push(key);
        }
        wanted.sort();
        let prefix = key(seed, "l")?;
        for limit in [1, 3, 11, 200] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = blobs.list(&prefix, after.as_ref(), limit).await?;
                ensure!(page.keys.len() <= limit, "a page of {} of {limit}", page.keys.len());
                found.extend(page.keys);
                ensure!(found.len() <= wanted.len(), "the list does not end: {found:?}");
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            same!(found, wanted, "in pages of {limit}");
        }
        Ok(())
    }

    pub(super) async fn a_prefix_is_whole_segments(blobs: Arc<dyn Blobs>, seed: u64) -> Verdict {
        for name in ["p/a", "p/ab", "p/a/x", "p", "pa/x"] {
            blobs.put(&key(seed, name)?, Body::Full(bytes(1)), 1).await?;
        }
        let page = blobs.list(&key(seed, "p/a")?, None, 10).await?;
        same!(page.keys, vec![key(seed, "p/a/x")?], "below p/a");
        let page = blobs.list(&key(seed, "p")?, None, 10).await?;
        same!(page.keys, vec![key(seed, "p/a")?, key(seed, "p/a/x")?, key(seed, "p/ab")?], "below p");
        let page = blobs.list(&key(seed, "none")?, None, 10).await?;
        same!((page.keys, page.next), (vec![], None), "below nothing");
        Ok(())
    }
}
