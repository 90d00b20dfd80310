//! Writing an object: at once where it fits into one part, in parts where it does not.

use std::time::Duration;

use burstflare_ports::blob::{BlobInfo, BlobKey};
use burstflare_ports::error::{ErrorKind, PortError, PortResult, Retry};
use js_sys::{Array, Object, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};

use super::bucket::{Bucket, MultipartUpload, failed};
use super::{DIGEST, MARK, TRAILED};
use crate::js::object;

const OPERATION: &str = "blobs.put";
/// Bytes of a part. R2 takes 5 MiB to 5 GiB, all but the last of one size, and 10,000 of them: 48 GiB.
const PART: u32 = 5 << 20;
/// Tries of one request to R2: a body flows only once, so a fault that passes must not end a long upload.
const TRIES: u32 = 4;

/// An object on its way. Dropped before its end it leaves nothing: parts that were sent are given up. Where the
/// isolate itself ends, R2 gives up unfinished uploads after seven days.
pub(super) struct Upload<'a> {
    bucket: &'a Bucket,
    key: &'a BlobKey,
    limit: u64,
    size: u64,
    hasher: blake3::Hasher,
    /// Of JavaScript's memory, which goes back when it is not needed; the module's own only grows.
    buffer: Option<Uint8Array>,
    filled: u32,
    sent: Option<Sent>,
}

/// Parts that are there already.
struct Sent {
    upload: MultipartUpload,
    parts: Array,
    complete: bool,
}

impl<'a> Upload<'a> {
    pub(super) fn new(bucket: &'a Bucket, key: &'a BlobKey, limit: u64) -> Self {
        let hasher = blake3::Hasher::new();
        Self { bucket, key, limit, size: 0, hasher, buffer: None, filled: 0, sent: None }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> PortResult<()> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            let context = format!("{} is over the limit of {} bytes", self.key, self.limit);
            return Err(PortError::new(ErrorKind::TooLarge, OPERATION, context));
        }
        self.hasher.update(bytes);
        self.append(bytes).await
    }

    async fn append(&mut self, mut bytes: &[u8]) -> PortResult<()> {
        while !bytes.is_empty() {
            // What fills a part to the last byte may be all there is, and goes at once then.
            if self.filled == PART {
                self.send_part().await?;
            }
            // A short blob does not need the buffer of a long one. In parts there is more to come.
            let room = u32::try_from(self.limit).unwrap_or(PART).min(PART);
            let room = if self.sent.is_some() { PART } else { room };
            let buffer = self.buffer.get_or_insert_with(|| Uint8Array::new_with_length(room));
            let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(room - self.filled);
            let (now, rest) = bytes.split_at_checked(count as usize).unwrap_or((bytes, &[]));
            buffer.subarray(self.filled, self.filled + count).copy_from(now);
            self.filled += count;
            bytes = rest;
        }
        Ok(())
    }

    fn part(&self) -> Uint8Array {
        self.buffer
            .as_ref()
            .map_or_else(|| Uint8Array::new_with_length(0), |all| all.subarray(0, self.filled))
    }

    async fn send_part(&mut self) -> PortResult<()> {
        if self.sent.is_none() {
            let notes = object([(TRAILED, JsValue::from_str("flareb1"))]);
            let options = object([("customMetadata", notes.into())]);
            let upload = again(async || self.bucket.create_upload(self.key.as_str(), &options).await).await?;
            self.sent = Some(Sent { upload: upload.unchecked_into(), parts: Array::new(), complete: false });
        }
        let part = self.part();
        if let Some(sent) = &self.sent {
            let number = sent.parts.length() + 1;
            let done = again(async || sent.upload.upload_part(number, &part).await).await?;
            sent.parts.push(&done);
        }
        self.filled = 0;
        Ok(())
    }

    pub(super) async fn finish(mut self) -> PortResult<BlobInfo> {
        let digest = self.hasher.finalize();
        let info = BlobInfo { size: self.size, blake3: digest.to_hex().to_string() };
        if self.sent.is_none() {
            let notes = object([(DIGEST, JsValue::from_str(&info.blake3))]);
            let options: Object = object([("customMetadata", notes.into())]);
            let part = self.part();
            again(async || self.bucket.put(self.key.as_str(), &part, &options).await).await?;
            return Ok(info);
        }
        self.append(digest.as_bytes()).await?;
        self.append(MARK).await?;
        self.send_part().await?;
        if let Some(sent) = &mut self.sent {
            // Not twice: where the answer alone was lost the upload is not there any more.
            sent.upload.complete(&sent.parts).await.map_err(|error| failed(OPERATION, &error))?;
            sent.complete = true;
        }
        Ok(info)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.complete {
            return;
        }
        let upload = self.upload.clone();
        wasm_bindgen_futures::spawn_local(async move {
            // R2 gives it up by itself after seven days.
            let _ = upload.abort().await;
        });
    }
}

/// Asks R2, again where the fault passes.
async fn again(ask: impl AsyncFn() -> Result<JsValue, JsValue>) -> PortResult<JsValue> {
    let mut pause = Duration::from_millis(200);
    for _ in 1..TRIES {
        match ask().await.map_err(|error| failed(OPERATION, &error)) {
            Err(error) if error.retry() == Retry::Later => tracing::warn!(?error, "R2 is asked again"),
            answer => return answer,
        }
        worker::Delay::from(pause).await;
        pause *= 4;
    }
    ask().await.map_err(|error| failed(OPERATION, &error))
}
