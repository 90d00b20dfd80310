//! Packs and a manifest on their way, in [`frame`]s. A frame's first byte says what the rest is:
//!
//! | byte | the rest |
//! |---|---|
//! | 1 | a pack begins: its hash and length |
//! | 2 | bytes of the pack |
//! | 3 | the pack is whole: its [`Index`] object, or nothing on the way to a machine |
//! | 4 | bytes of the manifest |
//!
//! From a machine come all packs and then the manifest ([`Order::PacksFirst`]); to a machine first the manifest and
//! then the packs ([`Order::ManifestFirst`]). The frames' trailer ends both.

use bytes::{BufMut, Bytes, BytesMut};

use super::records::check_pack;
use super::{Hash, Index, MAX_PACKS, Pack, SnapshotError, corrupt, manifest};
use crate::wire::frame;

const BEGIN: u8 = 1;
const BYTES: u8 = 2;
const END: u8 = 3;
const MANIFEST: u8 = 4;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From a machine.
    PacksFirst,
    /// To a machine.
    ManifestFirst,
}

fn tagged(tag: u8, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 5 * (bytes.len() / (frame::LIMIT - 1) + 1));
    for part in bytes.chunks(frame::LIMIT - 1) {
        out.put_u32(u32::try_from(part.len() + 1).unwrap_or(u32::MAX));
        out.put_u8(tag);
        out.put_slice(part);
    }
    out.freeze()
}

/// A pack begins.
#[must_use]
pub fn begin(pack: &Pack) -> Bytes {
    let mut head = Vec::with_capacity(Pack::SIZE);
    pack.encode(&mut head);
    tagged(BEGIN, &head)
}

/// Bytes of the pack that began last.
#[must_use]
pub fn bytes(bytes: &[u8]) -> Bytes {
    tagged(BYTES, bytes)
}

/// The pack is whole; from a machine, with its index.
#[must_use]
pub fn end(index: &[u8]) -> Bytes {
    if index.is_empty() { Bytes::from_static(&[0, 0, 0, 1, END]) } else { tagged(END, index) }
}

/// Bytes of the manifest.
#[must_use]
pub fn manifest(bytes: &[u8]) -> Bytes {
    tagged(MANIFEST, bytes)
}

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A pack begins.
    PackBegin(Pack),
    /// Its next bytes, at least one.
    PackBytes(Bytes),
    /// It is whole and has the hash that it was announced with.
    PackEnd {
        /// The pack.
        pack: Pack,
        /// Its [`Index`] object, checked to be of this pack; empty on the way to a machine.
        index: Bytes,
    },
    /// The next bytes of the manifest, at least one. They are not looked into.
    Manifest(Bytes),
}

/// Takes a stream apart as it comes; holds at most one frame.
#[derive(Debug)]
pub struct Decoder {
    order: Order,
    frames: frame::Decoder,
    pack: Option<Open>,
    packs: u32,
    manifest: u64,
    /// The manifest's bytes are over: a pack came after them.
    after_manifest: bool,
    /// Said with the next call: parts before the damage are handed out first.
    failed: Option<SnapshotError>,
}

#[derive(Debug)]
struct Open {
    pack: Pack,
    hasher: blake3::Hasher,
    left: u32,
}

impl Decoder {
    /// For a stream in this order.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self {
            order,
            frames: frame::Decoder::default(),
            pack: None,
            packs: 0,
            manifest: 0,
            after_manifest: false,
            failed: None,
        }
    }

    /// Takes in bytes and answers what became whole. What came before some damage is still answered; the next call
    /// then says what is wrong, be it with no bytes at all.
    ///
    /// # Errors
    /// On anything out of order, out of bounds or damaged; the decoder is of no use after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, SnapshotError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let frames = self.frames.push(bytes).map_err(|error| SnapshotError::Corrupt(error.to_string()))?;
        let mut parts = Vec::with_capacity(frames.len());
        for frame in frames {
            match self.part(frame) {
                Ok(part) => parts.push(part),
                Err(error) if parts.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(parts)
    }

    /// The trailer, once the stream has ended.
    ///
    /// # Errors
    /// Where it ended too early, or has no manifest.
    pub fn finish(self) -> Result<Bytes, SnapshotError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.pack.is_some() || self.manifest == 0 {
            return corrupt("the stream ends in the middle");
        }
        self.frames.finish().map_err(|error| SnapshotError::Corrupt(error.to_string()))
    }

    fn part(&mut self, mut frame: Bytes) -> Result<Part, SnapshotError> {
        let tag = if frame.is_empty() { 0 } else { frame.split_to(1)[0] };
        match (tag, &mut self.pack) {
            (BEGIN, None) => self.open(&frame),
            (BYTES, Some(open)) => {
                let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                let left = open.left.checked_sub(length).filter(|_| length > 0);
                let Some(left) = left else { return corrupt("a pack is not as long as was said") };
                open.left = left;
                open.hasher.update(&frame);
                Ok(Part::PackBytes(frame))
            }
            (END, Some(open)) => {
                if open.left != 0 || Hash::from(open.hasher.finalize()) != open.pack.hash {
                    return corrupt(format!("the pack {} is damaged", open.pack.hash));
                }
                let pack = open.pack;
                self.pack = None;
                self.check_index(&pack, &frame)?;
                Ok(Part::PackEnd { pack, index: frame })
            }
            (MANIFEST, None) if !frame.is_empty() && !self.after_manifest => {
                self.manifest += frame.len() as u64;
                if self.manifest > manifest::LIMIT {
                    return corrupt("the manifest is over its limit");
                }
                Ok(Part::Manifest(frame))
            }
            _ => corrupt("the stream is out of order"),
        }
    }

    fn open(&mut self, mut head: &[u8]) -> Result<Part, SnapshotError> {
        let Some(pack) = Pack::take(&mut head).filter(|_| head.is_empty()) else {
            return corrupt("the head of a pack is malformed");
        };
        check_pack(&pack)?;
        if self.packs == MAX_PACKS {
            return corrupt("too many packs");
        }
        match self.order {
            Order::PacksFirst if self.manifest > 0 => return corrupt("a pack after the manifest"),
            Order::ManifestFirst if self.manifest == 0 => return corrupt("a pack before the manifest"),
            Order::ManifestFirst => self.after_manifest = true,
            Order::PacksFirst => {}
        }
        self.packs += 1;
        self.pack = Some(Open { pack, hasher: blake3::Hasher::new(), left: pack.length });
        Ok(Part::PackBegin(pack))
    }

    fn check_index(&self, pack: &Pack, index: &[u8]) -> Result<(), SnapshotError> {
        match self.order {
            Order::ManifestFirst if index.is_empty() => Ok(()),
            Order::ManifestFirst => corrupt("an index on the way to a machine"),
            Order::PacksFirst if Index::decode(index)?.pack == *pack => Ok(()),
            Order::PacksFirst => corrupt("an index of another pack"),
        }
    }
}
