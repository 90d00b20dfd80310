//! Packs in the making: frames one after the other, until a pack is full.

use burstflare_ports::wire::snapshot::{Chunk, Hash, Index, MAX_PACK, MAX_PACK_CHUNKS, Pack, stream};
use bytes::Bytes;

use super::draft::Source;
use crate::reply::Refused;

/// Bytes of a pack in one piece of the stream.
const PIECE: usize = 512 << 10;
/// Fast, and within a few percent of the default's size.
const LEVEL: i32 = 1;

/// What a thread needs to compress chunks.
pub(super) struct Press(zstd::bulk::Compressor<'static>);

impl Press {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Compressor::new(LEVEL)?))
    }

    /// The frame of a chunk.
    pub(super) fn frame(&mut self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.compress(plain)
    }
}

/// Collects frames and hands on whole packs.
pub(super) struct Packer<'o> {
    out: &'o mut dyn FnMut(Bytes) -> std::io::Result<()>,
    frames: Vec<u8>,
    chunks: Vec<Chunk>,
    /// Packs so far.
    pub(super) packs: Vec<Pack>,
}

impl<'o> Packer<'o> {
    /// Whole pieces of the stream go to `out`.
    pub(super) fn new(out: &'o mut dyn FnMut(Bytes) -> std::io::Result<()>) -> Self {
        Self { out, frames: Vec::new(), chunks: Vec::new(), packs: Vec::new() }
    }

    /// Takes in a chunk, and says where it is going to be.
    pub(super) fn add(&mut self, hash: Hash, plain: u32, frame: &[u8]) -> Result<Source, Refused> {
        if self.frames.len() + frame.len() > MAX_PACK as usize || self.chunks.len() == MAX_PACK_CHUNKS {
            self.close()?;
        }
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (pack, offset, stored) =
            (number(self.packs.len()), number(self.frames.len()), number(frame.len()));
        self.frames.extend_from_slice(frame);
        self.chunks.push(Chunk { hash, pack: 0, offset, stored, plain });
        Ok(Source::New { pack, offset, stored })
    }

    /// Hands on the last pack.
    pub(super) fn close(&mut self) -> Result<(), Refused> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let frames = std::mem::take(&mut self.frames);
        let pack = Pack { hash: Hash::of(&frames), length: u32::try_from(frames.len()).unwrap_or(u32::MAX) };
        let index = Index { pack, chunks: std::mem::take(&mut self.chunks) };
        (self.out)(stream::begin(&pack))?;
        for piece in frames.chunks(PIECE) {
            (self.out)(stream::bytes(piece))?;
        }
        (self.out)(stream::end(&index.encode()))?;
        self.packs.push(pack);
        // The next one will need as much room.
        self.frames = frames;
        self.frames.clear();
        Ok(())
    }

    /// A piece of the stream that is no pack.
    pub(super) fn send(&mut self, piece: Bytes) -> Result<(), Refused> {
        Ok((self.out)(piece)?)
    }
}
