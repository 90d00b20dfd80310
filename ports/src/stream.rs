//! Bodies: bytes that come all at once or in a bounded flow.

use std::fmt;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};

use crate::error::{ErrorKind, PortError, PortResult};

/// A flow of chunks. Back-pressure is the reader's pace: producers hold at most one chunk ahead.
/// Dropping it cancels the producer.
pub type ByteStream = Pin<Box<dyn Stream<Item = PortResult<Bytes>> + Send>>;

/// The body of a call or of a blob.
pub enum Body {
    /// Everything at once.
    Full(Bytes),
    /// A flow.
    Stream(ByteStream),
}

impl Body {
    /// A body of no bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    /// The body as a flow.
    #[must_use]
    pub fn into_stream(self) -> ByteStream {
        match self {
            Self::Full(bytes) if bytes.is_empty() => Box::pin(stream::empty()),
            Self::Full(bytes) => Box::pin(stream::iter([Ok(bytes)])),
            Self::Stream(flow) => flow,
        }
    }

    /// Reads everything into memory.
    ///
    /// # Errors
    /// `TooLarge` past `limit` bytes; otherwise what the flow answers.
    pub async fn collect(self, limit: usize, operation: &'static str) -> PortResult<Bytes> {
        let too_large = || {
            PortError::new(ErrorKind::TooLarge, operation, format!("body over the limit of {limit} bytes"))
        };
        let mut flow = match self {
            Self::Full(bytes) if bytes.len() <= limit => return Ok(bytes),
            Self::Full(_) => return Err(too_large()),
            Self::Stream(flow) => flow,
        };
        let mut all = BytesMut::new();
        while let Some(chunk) = flow.next().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > limit {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}
