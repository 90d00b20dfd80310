//! Frames around a stream whose end has to be told from a broken connection: each chunk is preceded by its length
//! (4 bytes, big endian, 1 to [`LIMIT`]); a length of 0 ends the chunks and is followed by one more length and
//! that many bytes of JSON. A stream that ends before is truncated.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest chunk or trailer, in bytes.
pub const LIMIT: usize = 1 << 20;

/// A malformed or truncated stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length over [`LIMIT`].
    #[error("frame over the limit")]
    TooLong,
    /// Bytes after the trailer.
    #[error("bytes after the end")]
    Trailing,
    /// The stream ended before its trailer.
    #[error("stream ended early")]
    Truncated,
}

/// Puts a frame around a chunk. Empty chunks have no frame; longer ones than [`LIMIT`] become several.
#[must_use]
pub fn encode(chunk: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(chunk.len() + 4 * (chunk.len() / LIMIT + 1));
    for part in chunk.chunks(LIMIT) {
        framed.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
        framed.put_slice(part);
    }
    framed.freeze()
}

/// The end of the chunks and the trailer (JSON, at most [`LIMIT`] bytes).
#[must_use]
pub fn encode_trailer(trailer: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(trailer.len() + 8);
    framed.put_u32(0);
    framed.put_u32(u32::try_from(trailer.len()).unwrap_or(u32::MAX));
    framed.put_slice(trailer);
    framed.freeze()
}

/// Takes frames apart again.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    chunks_ended: bool,
    trailer: Option<Bytes>,
}

impl Decoder {
    /// Takes in bytes and answers the chunks that became whole. Holds at most one frame.
    ///
    /// # Errors
    /// On a malformed stream; the decoder is of no use after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        self.buffer.extend_from_slice(bytes);
        let mut chunks = Vec::new();
        loop {
            if self.trailer.is_some() {
                return if self.buffer.is_empty() { Ok(chunks) } else { Err(FrameError::Trailing) };
            }
            let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(chunks) };
            let length = u32::from_be_bytes(*head) as usize;
            if length > LIMIT {
                return Err(FrameError::TooLong);
            }
            if length == 0 && !self.chunks_ended {
                self.buffer.advance(4);
                self.chunks_ended = true;
                continue;
            }
            if self.buffer.len() < 4 + length {
                return Ok(chunks);
            }
            self.buffer.advance(4);
            let body = self.buffer.split_to(length).freeze();
            if self.chunks_ended {
                self.trailer = Some(body);
            } else {
                chunks.push(body);
            }
        }
    }

    /// The trailer, once the stream has ended.
    ///
    /// # Errors
    /// `Truncated` when it never came.
    pub fn finish(self) -> Result<Bytes, FrameError> {
        self.trailer.filter(|_| self.buffer.is_empty()).ok_or(FrameError::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_survive_any_split() {
        let mut stream = BytesMut::new();
        stream.extend_from_slice(&encode(&Bytes::from_static(b"hello")));
        stream.extend_from_slice(&encode(&Bytes::from_static(b"")));
        stream.extend_from_slice(&encode(&Bytes::from(vec![7; LIMIT + 3])));
        stream.extend_from_slice(&encode_trailer(b"{}"));
        for step in [1, 3, 1000, stream.len()] {
            let mut decoder = Decoder::default();
            let mut all = Vec::new();
            for piece in stream.chunks(step) {
                for chunk in decoder.push(piece).expect("well formed") {
                    all.extend_from_slice(&chunk);
                }
            }
            assert_eq!(all.len(), 5 + LIMIT + 3);
            assert_eq!(decoder.finish().expect("whole"), "{}");
        }
    }

    #[test]
    fn truncated_and_malformed_streams_are_told_apart() {
        let mut cut = Decoder::default();
        let whole = encode_trailer(b"{}");
        cut.push(&whole[..whole.len() - 1]).expect("no error yet");
        assert_eq!(cut.finish(), Err(FrameError::Truncated));
        assert_eq!(Decoder::default().push(&[255, 0, 0, 0]), Err(FrameError::TooLong));
        let mut trailing = Decoder::default();
        assert_eq!(trailing.push(&[&whole[..], b"x"].concat()), Err(FrameError::Trailing));
    }
}
