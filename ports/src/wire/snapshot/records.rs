//! Records of fixed size: what a scan lacks, and what the asker has already.

use super::{Chunk, Hash, MAX_CHUNK, MAX_PACK, MAX_STORED, Pack, SnapshotError, corrupt};

/// Takes `N` bytes off the front.
pub(super) fn take<'b, const N: usize>(bytes: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(head)
}

pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(|four| u32::from_le_bytes(*four))
}

pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(|eight| u64::from_le_bytes(*eight))
}

pub(super) fn take_hash(bytes: &mut &[u8]) -> Option<Hash> {
    take(bytes).map(|all| Hash(*all))
}

/// A chunk that the parent's tables do not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// BLAKE3 of its plain bytes.
    pub hash: Hash,
    /// Plain bytes: 1 to [`MAX_CHUNK`].
    pub plain: u32,
}

impl Missing {
    /// Bytes of a record.
    pub const SIZE: usize = 36;

    /// Appends the record: hash, plain length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.0);
        out.extend_from_slice(&self.plain.to_le_bytes());
    }

    /// Reads one.
    ///
    /// # Errors
    /// Where the length is out of bounds.
    pub fn decode(record: &[u8; Self::SIZE]) -> Result<Self, SnapshotError> {
        let rest = &mut &record[..];
        match (take_hash(rest), take_u32(rest)) {
            (Some(hash), Some(plain @ 1..=MAX_CHUNK)) => Ok(Self { hash, plain }),
            _ => corrupt("a record of a missing chunk is out of bounds"),
        }
    }

    /// Reads all of a frame.
    ///
    /// # Errors
    /// Where it holds no whole number of records, or one is out of bounds.
    pub fn decode_all(frame: &[u8]) -> Result<Vec<Self>, SnapshotError> {
        let (records, rest) = frame.as_chunks::<{ Self::SIZE }>();
        if !rest.is_empty() {
            return corrupt("a frame of records holds a part of one");
        }
        records.iter().map(Self::decode).collect()
    }
}

/// A chunk that is stored already, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Have {
    /// BLAKE3 of its plain bytes.
    pub hash: Hash,
    /// The pack that it lies in.
    pub pack: Pack,
    /// Where its frame begins in the pack.
    pub offset: u32,
    /// Bytes of its frame.
    pub stored: u32,
    /// Plain bytes.
    pub plain: u32,
}

impl Have {
    /// Bytes of a record.
    pub const SIZE: usize = 80;

    /// Appends the record: hash, pack's hash, pack's length, offset, stored length, plain length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.0);
        out.extend_from_slice(&self.pack.hash.0);
        for number in [self.pack.length, self.offset, self.stored, self.plain] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// Where lengths are out of bounds.
    pub fn decode(record: &[u8; Self::SIZE]) -> Result<Self, SnapshotError> {
        let rest = &mut &record[..];
        let read = |rest: &mut &[u8]| {
            Some(Self {
                hash: take_hash(rest)?,
                pack: Pack { hash: take_hash(rest)?, length: take_u32(rest)? },
                offset: take_u32(rest)?,
                stored: take_u32(rest)?,
                plain: take_u32(rest)?,
            })
        };
        match read(rest) {
            Some(have) => have.check().map(|()| have),
            None => corrupt("a record of a stored chunk is cut off"),
        }
    }

    fn check(&self) -> Result<(), SnapshotError> {
        check_pack(&self.pack)?;
        check_range(self.pack.length, self.offset, self.stored, self.plain)
    }
}

/// The bounds of a pack.
pub(super) fn check_pack(pack: &Pack) -> Result<(), SnapshotError> {
    if (1..=MAX_PACK).contains(&pack.length) { Ok(()) } else { corrupt("a pack's length is out of bounds") }
}

/// The bounds of a chunk in a pack of this length.
pub(super) fn check_range(length: u32, offset: u32, stored: u32, plain: u32) -> Result<(), SnapshotError> {
    let fits = offset.checked_add(stored).is_some_and(|end| end <= length);
    if fits && (1..=MAX_STORED).contains(&stored) && (1..=MAX_CHUNK).contains(&plain) {
        Ok(())
    } else {
        corrupt("a chunk's place is out of bounds")
    }
}

impl Chunk {
    /// Bytes of a record in the manifest's table.
    pub const SIZE: usize = 48;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.0);
        for number in [self.pack, self.offset, self.stored, self.plain] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            hash: take_hash(bytes)?,
            pack: take_u32(bytes)?,
            offset: take_u32(bytes)?,
            stored: take_u32(bytes)?,
            plain: take_u32(bytes)?,
        })
    }
}

impl Pack {
    /// Bytes of a record in the manifest's table.
    pub const SIZE: usize = 36;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.0);
        out.extend_from_slice(&self.length.to_le_bytes());
    }

    pub(super) fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { hash: take_hash(bytes)?, length: take_u32(bytes)? })
    }
}
