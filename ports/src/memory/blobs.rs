use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;

use super::locked;
use crate::blob::{BlobInfo, BlobKey, BlobPage, Blobs};
use crate::error::{ErrorKind, PortError, PortResult};
use crate::stream::{Body, ByteStream};

const CHUNK: usize = 256 * 1024;
const LIST_LIMIT: usize = 200;

/// Blobs in memory.
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    blobs: Mutex<BTreeMap<BlobKey, (BlobInfo, Bytes)>>,
}

impl MemoryBlobs {
    /// All keys, in order: to look for what nothing names any more.
    #[must_use]
    pub fn keys(&self) -> Vec<BlobKey> {
        locked(&self.blobs).keys().cloned().collect()
    }

    /// Flips a bit of a blob, as a bad disk would; answers whether there was one to flip.
    pub fn damage(&self, key: &BlobKey) -> bool {
        match locked(&self.blobs).get_mut(key) {
            Some((_, bytes)) if !bytes.is_empty() => {
                let mut damaged = bytes.to_vec();
                damaged[0] ^= 1;
                *bytes = damaged.into();
                true
            }
            _ => false,
        }
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo> {
        let bytes = body.collect(usize::try_from(limit).unwrap_or(usize::MAX), "blobs.put").await?;
        let info = BlobInfo { size: bytes.len() as u64, blake3: blake3::hash(&bytes).to_hex().to_string() };
        locked(&self.blobs).insert(key.clone(), (info.clone(), bytes));
        Ok(info)
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        let failed = |kind, what| PortError::new(kind, "blobs.get", format!("{key}: {what}"));
        let (info, bytes) = locked(&self.blobs)
            .get(key)
            .cloned()
            .ok_or_else(|| failed(ErrorKind::NotFound, "there is no such blob"))?;
        let bytes = match range {
            Some(range) if range.start > range.end || range.end > info.size => {
                return Err(failed(ErrorKind::Invalid, "it has no such range"));
            }
            // Both ends are within the bytes, so they are numbers of this machine.
            Some(range) => bytes.slice(
                usize::try_from(range.start).unwrap_or(usize::MAX)
                    ..usize::try_from(range.end).unwrap_or(usize::MAX),
            ),
            None if blake3::hash(&bytes).to_hex().as_str() != info.blake3 => {
                let error = failed(ErrorKind::Corrupt, "other bytes than were stored");
                return Ok((info, Box::pin(stream::iter([Err(error)]))));
            }
            None => bytes,
        };
        let chunks: Vec<_> = (0..bytes.len())
            .step_by(CHUNK)
            .map(|start| Ok(bytes.slice(start..bytes.len().min(start + CHUNK))))
            .collect();
        Ok((info, Box::pin(stream::iter(chunks))))
    }

    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
        Ok(locked(&self.blobs).get(key).map(|(info, _)| info.clone()))
    }

    async fn delete(&self, key: &BlobKey) -> PortResult<()> {
        locked(&self.blobs).remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        if !(1..=LIST_LIMIT).contains(&limit) {
            return Err(PortError::new(ErrorKind::Invalid, "blobs.list", format!("a page of {limit} keys")));
        }
        let below = format!("{prefix}/");
        let mut keys: Vec<BlobKey> = locked(&self.blobs)
            .keys()
            .filter(|key| key.as_str().starts_with(&below) && after.is_none_or(|after| *key > after))
            .take(limit + 1)
            .cloned()
            .collect();
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = if more { keys.last().cloned() } else { None };
        Ok(BlobPage { keys, next })
    }
}
