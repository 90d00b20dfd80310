//! A body, cut into parts of one size, hashed on the way.

use burstflare_ports::blob::BlobInfo;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::{Body, ByteStream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::facts;

const OPERATION: &str = "blobs.put";
/// More is hashed where it may block.
const HASHED_HERE: usize = 64 << 10;

/// A body on its way into parts. Holds at most one part and the chunk that the body gave last.
pub(super) struct Parts {
    flow: ByteStream,
    rest: Bytes,
    hasher: blake3::Hasher,
    /// Bytes of the body so far.
    size: u64,
    limit: u64,
    part: usize,
    /// Whether the body has ended, and the trailer is all that may follow.
    ended: bool,
}

/// One part.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    /// Whether the body ended in it.
    pub(super) last: bool,
}

impl Parts {
    pub(super) fn of(body: Body, limit: u64, part: usize) -> Self {
        let (flow, rest, hasher) = (body.into_stream(), Bytes::new(), blake3::Hasher::new());
        Self { flow, rest, hasher, size: 0, limit, part, ended: false }
    }

    /// Of the bytes so far.
    pub(super) fn info(&self) -> BlobInfo {
        BlobInfo { size: self.size, blake3: self.hasher.finalize().to_hex().to_string() }
    }

    /// The next part, without a trailer: full, unless the body ended in it.
    pub(super) async fn next(&mut self) -> PortResult<Part> {
        let (mut pieces, mut length) = (Vec::new(), 0);
        while length < self.part {
            if self.rest.is_empty() {
                match self.flow.next().await.transpose()? {
                    Some(chunk) => self.take(chunk)?,
                    None => {
                        self.ended = true;
                        break;
                    }
                }
                continue;
            }
            let room = self.part - length;
            let piece = self.rest.split_to(room.min(self.rest.len()));
            length += piece.len();
            pieces.push(piece);
        }
        // A part in one piece is not copied.
        let bytes = match pieces.pop() {
            Some(only) if pieces.is_empty() => only,
            Some(last) => {
                let mut whole = BytesMut::with_capacity(length);
                pieces.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
                whole.extend_from_slice(&last);
                whole.freeze()
            }
            None => Bytes::new(),
        };
        self.hashed(bytes).await
    }

    /// What follows the last part's bytes: the trailer behind them, cut where the part is full.
    pub(super) fn with_trailer(&self, last: &Bytes) -> (Bytes, Option<Bytes>) {
        let mut whole = BytesMut::from(last.as_ref());
        whole.extend_from_slice(&facts::trailer(&self.hasher.finalize()));
        let mut whole = whole.freeze();
        if whole.len() <= self.part {
            return (whole, None);
        }
        let first = whole.split_to(self.part);
        (first, Some(whole))
    }

    fn take(&mut self, chunk: Bytes) -> PortResult<()> {
        self.size = self.size.saturating_add(chunk.len() as u64);
        if self.size > self.limit {
            let context = format!("over the limit of {} bytes", self.limit);
            return Err(PortError::new(ErrorKind::TooLarge, OPERATION, context));
        }
        self.rest = chunk;
        Ok(())
    }

    async fn hashed(&mut self, bytes: Bytes) -> PortResult<Part> {
        if bytes.len() <= HASHED_HERE {
            self.hasher.update(&bytes);
        } else {
            let (mut hasher, copy) = (self.hasher.clone(), bytes.clone());
            let work = move || {
                hasher.update(&copy);
                hasher
            };
            self.hasher = tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| PortError::new(ErrorKind::Internal, OPERATION, "the work was cut off"))?;
        }
        Ok(Part { bytes, last: self.ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cut(chunks: &[usize], part: usize) -> (Vec<usize>, Vec<u8>) {
        let flow: Vec<_> = chunks.iter().map(|length| Ok(Bytes::from(vec![7; *length]))).collect();
        let body = Body::Stream(Box::pin(futures_util::stream::iter(flow)));
        let mut parts = Parts::of(body, 1 << 20, part);
        let (mut lengths, mut all) = (Vec::new(), Vec::new());
        loop {
            let found = parts.next().await.expect("a part");
            let pieces = if found.last {
                let (first, second) = parts.with_trailer(&found.bytes);
                vec![Some(first), second]
            } else {
                vec![Some(found.bytes)]
            };
            for piece in pieces.into_iter().flatten() {
                lengths.push(piece.len());
                all.extend_from_slice(&piece);
            }
            if found.last {
                return (lengths, all);
            }
        }
    }

    #[tokio::test]
    async fn every_part_but_the_last_is_full_and_the_trailer_is_whole() {
        for chunks in [&[0][..], &[100], &[99, 1, 1], &[300], &[250, 50], &[70; 9], &[60, 1], &[61], &[160]] {
            let size: usize = chunks.iter().sum();
            let (lengths, all) = cut(chunks, 100).await;
            let (last, full) = lengths.split_last().expect("a part");
            assert!(full.iter().all(|length| *length == 100) && *last <= 100, "{chunks:?}: {lengths:?}");
            assert!(*last > 0, "{chunks:?}: {lengths:?}");
            assert_eq!(all.len(), size + 40, "{chunks:?}");
            let digest = facts::digest_in("case", "x", &all[size..]).expect("a trailer");
            assert_eq!(digest, blake3::hash(&all[..size]).to_hex().as_str());
        }
    }
}
