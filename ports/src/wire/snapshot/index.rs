//! What lies in a pack: an object beside it.

use super::records::{check_pack, check_range, take, take_hash, take_u32};
use super::{Chunk, Hash, MAX_PACK_CHUNKS, Pack, SnapshotError, corrupt};

const MAGIC: &[u8; 8] = b"FLAREIX2";
const HEAD: usize = 8 + Pack::SIZE + 4;
const RECORD: usize = 44;
const TRAILER: usize = 32;

/// The chunks of a pack, without gaps from its first to its last byte.
///
/// Its bytes: `FLAREIX2`, the pack's hash and length, the number of chunks (`u32`), for each its hash, offset, stored
/// and plain length (`u32`), and the BLAKE3 of all this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The pack.
    pub pack: Pack,
    /// In the order of their offsets; the `pack` number in them is 0.
    pub chunks: Vec<Chunk>,
}

impl Index {
    /// The most bytes an index has.
    pub const LIMIT: usize = HEAD + MAX_PACK_CHUNKS * RECORD + TRAILER;

    /// The object's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.chunks.len() * RECORD + TRAILER);
        out.extend_from_slice(MAGIC);
        self.pack.encode(&mut out);
        out.extend_from_slice(&u32::try_from(self.chunks.len()).unwrap_or(u32::MAX).to_le_bytes());
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.hash.0);
            for number in [chunk.offset, chunk.stored, chunk.plain] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        let trailer = Hash::of(&out);
        out.extend_from_slice(&trailer.0);
        out
    }

    /// Reads an object.
    ///
    /// # Errors
    /// On anything that [`Self::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let Some((body, trailer)) = bytes.split_last_chunk::<TRAILER>() else {
            return corrupt("an index is cut off");
        };
        if Hash::of(body).0 != *trailer {
            return corrupt("an index is damaged");
        }
        let rest = &mut &body[..];
        let head = (take::<8>(rest), Pack::take(rest), take_u32(rest));
        let (Some(MAGIC), Some(pack), Some(count)) = head else { return corrupt("this is no index") };
        check_pack(&pack)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if !(1..=MAX_PACK_CHUNKS).contains(&count) || rest.len() != count * RECORD {
            return corrupt("the number of chunks in an index is wrong");
        }
        let mut chunks = Vec::with_capacity(count);
        let mut end = 0;
        while let Some(hash) = take_hash(rest) {
            let numbers = (take_u32(rest), take_u32(rest), take_u32(rest));
            let (Some(offset), Some(stored), Some(plain)) = numbers else {
                return corrupt("an index is cut off");
            };
            check_range(pack.length, offset, stored, plain)?;
            if offset != end {
                return corrupt("an index has a gap");
            }
            end = offset + stored;
            chunks.push(Chunk { hash, pack: 0, offset, stored, plain });
        }
        if end != pack.length {
            return corrupt("an index ends before its pack does");
        }
        Ok(Self { pack, chunks })
    }
}
