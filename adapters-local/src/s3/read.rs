//! Reading: a blob's head, the whole of it, a range of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Answer;
use burstflare_ports::blob::{BlobInfo, BlobKey};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::stream;

use super::Bucket;
use super::error::{Failed, failed};
use super::facts::{Facts, TRAILER, digest_in};
use crate::tasks::Backoff;

const GET: &str = "blobs.get";
/// Times in a row that a body may break off without another byte of it.
const BREAKS: u32 = 4;
/// Between them.
const PAUSES: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// Size and digest; `None` where there is no blob.
pub(super) async fn head(bucket: &Arc<Bucket>, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
    match seen(bucket, "blobs.head", key).await? {
        None => Ok(None),
        Some(facts) => {
            digest_of(bucket, "blobs.head", key, &facts).await.map(|digest| Some(facts.info(digest)))
        }
    }
}

async fn seen(bucket: &Bucket, operation: &'static str, key: &BlobKey) -> PortResult<Option<Facts>> {
    let what = key.as_str();
    let call = bucket.client.head_object().bucket(bucket.name()).key(bucket.key(key));
    match call.send().await.map_err(|error| failed(operation, what, &error)) {
        Ok(found) => {
            let length = found.content_length().and_then(|length| u64::try_from(length).ok());
            Facts::of(operation, what, found.metadata(), length, found.e_tag()).map(Some)
        }
        // The answer has no body, so it does not say whether it is the blob that is missing, or the bucket, or a right.
        Err(failed) if failed.status.is_some_and(|status| status < 500) => {
            bucket.check(operation).await?;
            if failed.is_missing() { Ok(None) } else { Err(failed.into()) }
        }
        Err(failed) => Err(failed.into()),
    }
}

/// Reads a blob or a range of it.
pub(super) async fn get(
    bucket: &Arc<Bucket>,
    key: &BlobKey,
    range: Option<Range<u64>>,
) -> PortResult<(BlobInfo, ByteStream)> {
    let outside = || PortError::new(ErrorKind::Invalid, GET, format!("{key} has no such range"));
    if let Some(range) = &range
        && range.start >= range.end
    {
        // There is no way to ask for no bytes.
        let missing = || PortError::new(ErrorKind::NotFound, GET, format!("{key}: there is no such blob"));
        let facts = seen(bucket, GET, key).await?.ok_or_else(missing)?;
        if range.start > range.end || range.end > facts.size {
            return Err(outside());
        }
        let digest = digest_of(bucket, GET, key, &facts).await?;
        return Ok((facts.info(digest), Box::pin(stream::empty())));
    }
    let answer = ask(bucket, key, range.clone(), None).await.map_err(PortError::from)?;
    let length = match &range {
        None => answer.content_length().and_then(|length| u64::try_from(length).ok()),
        Some(range) => placed(&answer).filter(|(start, _)| *start == range.start).map(|(_, whole)| whole),
    };
    let facts = Facts::of(GET, key.as_str(), answer.metadata(), length, answer.e_tag())?;
    if range.as_ref().is_some_and(|range| range.end > facts.size) {
        return Err(outside());
    }
    let digest = digest_of(bucket, GET, key, &facts).await?;
    let info = facts.info(digest);
    let verify = range.is_none().then(|| (blake3::Hasher::new(), info.blake3.clone()));
    let range = range.unwrap_or(0..info.size);
    let reading = Reading {
        bucket: Arc::clone(bucket),
        key: key.clone(),
        tag: facts.tag,
        at: range.start,
        end: range.end,
        answer: Some(answer.body),
        verify,
        breaks: 0,
    };
    let flow = stream::try_unfold(Some(reading), |reading| async move {
        let Some(reading) = reading else { return Ok(None) };
        reading.next().await
    });
    Ok((info, Box::pin(flow)))
}

/// Asks for an object from its start or within a range, as long as it is the one with this tag.
async fn ask(
    bucket: &Bucket,
    key: &BlobKey,
    range: Option<Range<u64>>,
    tag: Option<&str>,
) -> Result<GetObjectOutput, Failed> {
    let call = bucket.client.get_object().bucket(bucket.name()).key(bucket.key(key));
    // The protocol's ranges end with the last byte. No range is empty here.
    let range = range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
    let call = call.set_range(range).set_if_match(tag.map(str::to_owned));
    call.send().await.map_err(|error: SdkError<_, _>| failed(GET, key.as_str(), &error))
}

/// Where a part of an object begins, and how long the whole object is.
fn placed(answer: &GetObjectOutput) -> Option<(u64, u64)> {
    let (place, whole) = answer.content_range()?.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = place.split_once('-')?;
    Some((start.parse().ok()?, whole.parse().ok()?))
}

/// The digest, from where it is.
async fn digest_of(
    bucket: &Arc<Bucket>,
    operation: &'static str,
    key: &BlobKey,
    facts: &Facts,
) -> PortResult<String> {
    if let Some(digest) = &facts.digest {
        return Ok(digest.clone());
    }
    let (at, end) = (facts.size, facts.size.saturating_add(TRAILER));
    let (bucket, tag) = (Arc::clone(bucket), facts.tag.clone());
    let first = Reading { bucket, key: key.clone(), tag, at, end, answer: None, verify: None, breaks: 0 };
    let (mut trailer, mut reading) = (BytesMut::new(), Some(first));
    while let Some(now) = reading.take() {
        if let Some((chunk, rest)) = now.next().await? {
            trailer.extend_from_slice(&chunk);
            reading = rest;
        }
    }
    digest_in(operation, key.as_str(), &trailer)
}

/// A body that is being read. Where it breaks off it is asked for again from there. Nothing is read ahead of its consumer but
/// what the connection holds; dropping it closes the connection.
struct Reading {
    bucket: Arc<Bucket>,
    key: BlobKey,
    tag: Option<String>,
    at: u64,
    end: u64,
    answer: Option<Answer>,
    /// Only of a whole read; a range cannot be verified.
    verify: Option<(blake3::Hasher, String)>,
    breaks: u32,
}

impl Reading {
    /// The next chunk and what comes behind it. The last chunk of a whole read is given only once the digest is right.
    async fn next(mut self) -> PortResult<Option<(Bytes, Option<Self>)>> {
        while self.at < self.end {
            let mut chunk = match self.piece().await {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.broke(error).await?;
                    continue;
                }
            };
            // Behind the bytes of a blob in parts comes its trailer.
            chunk.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
            if chunk.is_empty() {
                continue;
            }
            self.breaks = 0;
            self.at += chunk.len() as u64;
            if let Some((hasher, _)) = &mut self.verify {
                hasher.update(&chunk);
            }
            if self.at < self.end {
                return Ok(Some((chunk, Some(self))));
            }
            self.whole()?;
            return Ok(Some((chunk, None)));
        }
        self.whole()?;
        Ok(None)
    }

    /// What the connection gives next.
    async fn piece(&mut self) -> PortResult<Bytes> {
        let silence = self.bucket.options.deadlines.silence;
        if self.answer.is_none() {
            self.answer = Some(self.again().await?);
        }
        let Some(answer) = &mut self.answer else { return Ok(Bytes::new()) };
        let broken = |kind, what: &str| PortError::new(kind, GET, format!("{}: {what}", self.key));
        match tokio::time::timeout(silence, answer.next()).await {
            Ok(Some(Ok(chunk))) => Ok(chunk),
            Ok(Some(Err(error))) => {
                Err(broken(ErrorKind::Unavailable, "the bytes broke off").with_source(error))
            }
            Ok(None) => Err(broken(ErrorKind::Unavailable, "the bytes broke off")),
            Err(_) => Err(broken(ErrorKind::Timeout, "no more bytes came")),
        }
    }

    /// The rest of the same object.
    async fn again(&self) -> PortResult<Answer> {
        let what = |kind, what: &str| PortError::new(kind, GET, format!("{}: {what}", self.key));
        let answer = ask(&self.bucket, &self.key, Some(self.at..self.end), self.tag.as_deref()).await?;
        if placed(&answer).is_none_or(|(start, _)| start != self.at) {
            return Err(what(ErrorKind::Unsupported, "the S3 service does not read ranges"));
        }
        // Not every service looks at the condition.
        if self.tag.is_some() && answer.e_tag() != self.tag.as_deref() {
            return Err(what(ErrorKind::Conflict, "it was replaced while it was read"));
        }
        Ok(answer.body)
    }

    /// Takes a break in, unless there were too many, or it is none that passes.
    async fn broke(&mut self, error: PortError) -> PortResult<()> {
        self.answer = None;
        self.breaks += 1;
        let passes = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
        if !passes || self.breaks > BREAKS {
            return Err(error);
        }
        tokio::time::sleep(PAUSES.pause(self.breaks)).await;
        Ok(())
    }

    fn whole(&self) -> PortResult<()> {
        match &self.verify {
            Some((hasher, digest)) if hasher.finalize().to_hex().as_str() != digest => {
                let context = format!("{}: the bytes are not what was stored", self.key);
                Err(PortError::new(ErrorKind::Corrupt, GET, context))
            }
            _ => Ok(()),
        }
    }
}
