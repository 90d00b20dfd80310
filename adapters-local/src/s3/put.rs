//! Storing: in one call where the body is small, in parts where it is not.

use std::sync::Arc;

use burstflare_ports::blob::{BlobInfo, BlobKey};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::Body;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::Bucket;
use super::error::failed;
use super::facts::{DIGEST, TRAILER};
use super::parts::{Part, Parts};
use super::upload::Upload;
use crate::tasks::Tasks;

pub(super) const OPERATION: &str = "blobs.put";
/// What is in memory anyway goes in one call up to this many parts' size; a pack of a snapshot does.
const SINGLE: usize = 4;
/// Parts of one put on their way at once, beside the one that is being filled.
const AHEAD: usize = 2;
/// The protocol's.
const MOST_PARTS: u64 = 10_000;
/// The protocol's, for one object.
const LARGEST: u64 = 5 << 40;

/// Stores a body. Dropping the future gives the upload up. Its memory is bounded by three parts; the body is asked for more
/// only when there is room for it.
pub(super) async fn put(
    bucket: &Arc<Bucket>,
    tasks: &Arc<Tasks>,
    key: &BlobKey,
    body: Body,
    limit: u64,
) -> PortResult<BlobInfo> {
    let about = |error: PortError| named(key, error);
    let least = bucket.options.part.max(1);
    let single_up_to = least.saturating_mul(SINGLE);
    let body = match body {
        Body::Full(bytes) if bytes.len() <= single_up_to => {
            // It is one part, whatever its length.
            let mut whole = Parts::of(Body::Full(bytes), limit, single_up_to + 1);
            let part = whole.next().await.map_err(about)?;
            return single(bucket, key, whole.info(), part.bytes).await;
        }
        body => body,
    };
    let mut parts = Parts::of(body, limit, part_size(limit, least));
    let first = parts.next().await.map_err(about)?;
    if first.last {
        return single(bucket, key, parts.info(), first.bytes).await;
    }
    // Dropped in the reverse order: the parts stop flying before the upload is given up.
    let mut upload = Upload::begin(bucket, tasks, key).await?;
    let mut flying = JoinSet::new();
    let mut part = first;
    loop {
        let Part { bytes, last } = part;
        if last {
            let (bytes, more) = parts.with_trailer(&bytes);
            upload.send(&mut flying, bytes, AHEAD).await?;
            if let Some(bytes) = more {
                upload.send(&mut flying, bytes, AHEAD).await?;
            }
            break;
        }
        upload.send(&mut flying, bytes, AHEAD).await?;
        part = parts.next().await.map_err(about)?;
    }
    upload.landed(&mut flying).await?;
    upload.complete().await?;
    Ok(parts.info())
}

/// So large that ten thousand of them hold the largest body that is allowed, and no larger.
fn part_size(limit: u64, least: usize) -> usize {
    let whole = limit.min(LARGEST).saturating_add(TRAILER);
    let needed = whole.div_ceil(MOST_PARTS).next_multiple_of(1 << 20);
    usize::try_from(needed).unwrap_or(least).max(least)
}

/// One call. A repetition stores the same again.
async fn single(bucket: &Bucket, key: &BlobKey, info: BlobInfo, bytes: Bytes) -> PortResult<BlobInfo> {
    let _turn = bucket.turn().await?;
    let call = bucket.client.put_object().bucket(bucket.name()).key(bucket.key(key));
    let call =
        call.metadata(DIGEST, &info.blake3).content_type("application/octet-stream").body(bytes.into());
    call.send().await.map_err(|error| failed(OPERATION, key.as_str(), &error))?;
    Ok(info)
}

/// Says which blob it is about, where the error is ours.
fn named(key: &BlobKey, error: PortError) -> PortError {
    if error.operation() == OPERATION && error.kind() == ErrorKind::TooLarge {
        return PortError::new(ErrorKind::TooLarge, OPERATION, format!("{key} is {}", error.context()));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::PART;

    #[test]
    fn parts_grow_with_the_limit() {
        assert_eq!(part_size(0, PART), PART);
        assert_eq!(part_size(64 << 30, PART), PART);
        for limit in [80 << 30, 1 << 40, LARGEST, u64::MAX] {
            let parts = (limit.min(LARGEST) + TRAILER).div_ceil(part_size(limit, PART) as u64);
            assert!(parts <= MOST_PARTS, "{limit}: {parts}");
        }
        assert_eq!(part_size(u64::MAX, PART), 525 << 20);
    }
}
