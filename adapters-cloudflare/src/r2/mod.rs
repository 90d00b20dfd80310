//! Blobs in an R2 bucket.
//!
//! An object's digest has to appear together with its bytes. What fits into one part is put at once, with the digest in
//! the object's metadata. What is larger goes up in parts, and its metadata is said before its digest is known: there a
//! trailer of 40 bytes (BLAKE3 of the bytes and a mark, as in the folder's files) ends the object, and the metadata says so.
//!
//! Memory: an upload holds one part, outside the module's own memory; a download holds two chunks.
#![expect(
    clippy::future_not_send,
    reason = "waiting for JavaScript; what leaves the module goes through `js`"
)]

mod bucket;
mod flow;
mod upload;

use std::ops::Range;

use async_trait::async_trait;
use burstflare_ports::blob::{BlobInfo, BlobKey, BlobPage, Blobs};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::{Body, ByteStream};
use futures_util::StreamExt as _;
use js_sys::Object;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::send::SendWrapper;

use self::bucket::{Bucket, Page, Stored, code, failed, text};
use self::flow::Reading;
use self::upload::Upload;
use crate::js::{js, object};

/// The most keys of a page.
const LIST_LIMIT: usize = 200;
/// Metadata: the digest of an object without a trailer.
const DIGEST: &str = "blake3";
/// Metadata: the object ends in a trailer of this mark.
const TRAILED: &str = "trailer";
const MARK: &[u8; 8] = b"flareb1\n";
const TRAILER: u64 = 40;
/// JavaScript's numbers hold integers exactly up to here.
const SAFE: u64 = 1 << 53;

/// Blobs in one bucket.
#[derive(Debug)]
pub struct R2Blobs {
    bucket: SendWrapper<Bucket>,
}

impl R2Blobs {
    /// Over a binding.
    #[must_use]
    pub fn new(bucket: worker::Bucket) -> Self {
        Self { bucket: SendWrapper::new(JsValue::from(bucket).unchecked_into()) }
    }

    async fn stored(&self, operation: &'static str, key: &BlobKey) -> PortResult<Option<Stored>> {
        let found = self.bucket.head(key.as_str()).await.map_err(|error| failed(operation, &error))?;
        Ok(present(found))
    }

    /// Size and digest of what was found under a key. A trailer is read, provided the object is still the same.
    async fn info(&self, operation: &'static str, found: &Stored) -> PortResult<BlobInfo> {
        let whole = whole(found.size());
        let notes = found.notes();
        if let Some(blake3) = text(&notes, DIGEST) {
            return Ok(BlobInfo { size: whole, blake3 });
        }
        let corrupt =
            || PortError::new(ErrorKind::Corrupt, operation, format!("{} has no digest", found.key()));
        let size =
            whole.checked_sub(TRAILER).filter(|_| text(&notes, TRAILED).is_some()).ok_or_else(corrupt)?;
        let options = object([
            ("range", object([("offset", number(size)), ("length", number(TRAILER))]).into()),
            ("onlyIf", object([("etagMatches", JsValue::from_str(&found.etag()))]).into()),
        ]);
        let end = self.bucket.get(&found.key(), &options).await.map_err(|error| failed(operation, &error))?;
        let body = present(end).and_then(|end: Stored| end.body()).ok_or_else(|| {
            PortError::new(ErrorKind::Unavailable, operation, format!("{} changes just now", found.key()))
        })?;
        let mut trailer = Vec::new();
        let mut flow = Reading::begin(operation, &body, TRAILER, None)?.flow();
        while let Some(chunk) = flow.next().await {
            trailer.extend_from_slice(&chunk?);
        }
        let digest = trailer.strip_suffix(MARK).and_then(|digest| <[u8; 32]>::try_from(digest).ok());
        let digest = digest.ok_or_else(corrupt)?;
        Ok(BlobInfo { size, blake3: blake3::Hash::from_bytes(digest).to_hex().to_string() })
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        let operation = "blobs.get";
        let missing = || PortError::new(ErrorKind::NotFound, operation, format!("there is no {key}"));
        let outside = || PortError::new(ErrorKind::Invalid, operation, format!("{key} has no such range"));
        // R2 reads no empty range, and one that is none is refused here.
        if let Some(range) = range.as_ref().filter(|range| range.start >= range.end || range.end > SAFE) {
            let found = self.stored(operation, key).await?.ok_or_else(missing)?;
            let info = self.info(operation, &found).await?;
            let fits = range.start == range.end && range.end <= info.size;
            return if fits { Ok((info, Body::empty().into_stream())) } else { Err(outside()) };
        }
        let options = range.as_ref().map_or_else(Object::new, |range| {
            let length = number(range.end - range.start);
            object([("range", object([("offset", number(range.start)), ("length", length)]).into())])
        });
        let found = match self.bucket.get(key.as_str(), &options).await {
            Ok(found) => present::<Stored>(found).ok_or_else(missing)?,
            Err(error) if code(&error) == Some(bucket::RANGE) => return Err(outside()),
            Err(error) => return Err(failed(operation, &error)),
        };
        let body = found.body().ok_or_else(|| {
            PortError::new(ErrorKind::Internal, operation, format!("{key} came without bytes"))
        })?;
        // From here on the flow is ended by dropping the reading.
        let reading = Reading::begin(operation, &body, 0, None)?;
        let info = self.info(operation, &found).await?;
        let (length, digest) = match range {
            Some(range) if range.end > info.size => return Err(outside()),
            Some(range) => (range.end - range.start, None),
            // A range cannot be verified, a whole blob is.
            None => (info.size, Some(info.blake3.clone())),
        };
        Ok((info, reading.of(length, digest).flow()))
    }

    async fn page(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        let operation = "blobs.list";
        let limit = limit.clamp(1, LIST_LIMIT);
        let mut keys = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let left = u32::try_from(limit - keys.len()).unwrap_or(1);
            let from = match (&cursor, after) {
                (Some(cursor), _) => ("cursor", JsValue::from_str(cursor)),
                (None, Some(after)) => ("startAfter", JsValue::from_str(after.as_str())),
                (None, None) => ("cursor", JsValue::UNDEFINED),
            };
            let options = object([
                ("prefix", JsValue::from_str(&format!("{prefix}/"))),
                ("limit", JsValue::from_f64(left.into())),
                from,
            ]);
            let found = self.bucket.list(&options).await.map_err(|error| failed(operation, &error))?;
            let page: Page = found.unchecked_into();
            // What others keep in the bucket under names that are no keys is none of ours.
            keys.extend(page.objects().iter().filter_map(|stored| stored.key().parse::<BlobKey>().ok()));
            cursor = page.cursor().filter(|_| page.truncated());
            // R2 may answer less than it was asked for though there is more.
            if cursor.is_none() || keys.len() >= limit {
                let next = cursor.and_then(|_| keys.last().cloned());
                return Ok(BlobPage { keys, next });
            }
        }
    }
}

#[async_trait]
impl Blobs for R2Blobs {
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo> {
        let mut upload = Upload::new(&self.bucket.0, key, limit);
        let mut flow = body.into_stream();
        js(async {
            while let Some(chunk) = flow.next().await {
                upload.write(&chunk?).await?;
            }
            upload.finish().await
        })
        .await
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        js(self.read(key, range)).await
    }

    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
        js(async {
            match self.stored("blobs.head", key).await? {
                Some(found) => self.info("blobs.head", &found).await.map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    async fn delete(&self, key: &BlobKey) -> PortResult<()> {
        js(async {
            self.bucket.delete(key.as_str()).await.map(drop).map_err(|error| failed("blobs.delete", &error))
        })
        .await
    }

    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        js(self.page(prefix, after, limit)).await
    }
}

/// What R2 answered, unless it is `null`.
fn present<T: wasm_bindgen::JsCast>(found: JsValue) -> Option<T> {
    (!found.is_null() && !found.is_undefined()).then(|| found.unchecked_into())
}

/// A number for JavaScript, below [`SAFE`].
fn number(value: u64) -> JsValue {
    JsValue::from_f64(value as f64)
}

/// A size that JavaScript says.
fn whole(value: f64) -> u64 {
    value as u64
}
