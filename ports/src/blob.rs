//! Blobs: immutable bytes under a key, for bundles, layers, logs and snapshots.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::PortResult;
use crate::stream::{Body, ByteStream};

/// 1 to 8 segments of `a-z A-Z 0-9 . _ -` joined by `/`, at most 200 bytes, no segment of dots alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobKey(String);

/// Text that is no blob key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a blob key")]
pub struct InvalidBlobKey;

impl BlobKey {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BlobKey {
    type Err = InvalidBlobKey;

    fn from_str(text: &str) -> Result<Self, InvalidBlobKey> {
        let fits = |segment: &str| {
            segment.bytes().any(|byte| byte != b'.')
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if text.len() <= 200 && text.split('/').count() <= 8 && text.split('/').all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidBlobKey)
        }
    }
}

impl TryFrom<String> for BlobKey {
    type Error = InvalidBlobKey;

    fn try_from(text: String) -> Result<Self, InvalidBlobKey> {
        text.parse()
    }
}

impl From<BlobKey> for String {
    fn from(key: BlobKey) -> Self {
        key.0
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known about a stored blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the bytes, hexadecimal.
    pub blake3: String,
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPage {
    /// In order.
    pub keys: Vec<BlobKey>,
    /// Where the next page begins (exclusive), if there may be one.
    pub next: Option<BlobKey>,
}

/// Stores blobs. A blob appears whole or not at all, is on stable storage when `put` answers, and never changes:
/// a second `put` of a key replaces it atomically (callers use it only for equal bytes).
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Stores a body of at most `limit` bytes. `TooLarge` past it, `Full` where no space is left; nothing is left behind then.
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo>;

    /// Reads a blob or a range of it. `NotFound` where there is none, `Invalid` for a range that does not lie within it
    /// (an empty one at its end does). A whole read whose bytes are not what was stored
    /// ends in `Corrupt` at the latest with its last chunk.
    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)>;

    /// Size and digest; `None` where there is no blob.
    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>>;

    /// Removes a blob; one that is not there is no error.
    async fn delete(&self, key: &BlobKey) -> PortResult<()>;

    /// Keys below a prefix of whole segments, in order, at most `limit` (up to 200), after `after`.
    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_their_folder() {
        for good in ["a", "layers/ab12.tar.zst", "a/b/c/d/e/f/g/h"] {
            assert!(good.parse::<BlobKey>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "a/./b", "a b", "a/b/c/d/e/f/g/h/i", "ä"] {
            assert!(bad.parse::<BlobKey>().is_err(), "{bad}");
        }
    }
}
