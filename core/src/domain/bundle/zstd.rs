//! zstd (RFC 8878), pushed.
//!
//! Frames and blocks are cut out here and handed to the decoder whole, one block (at most 128 KiB) at a time: the
//! decoder then never meets the end of its input, and what comes out does not depend on how the input was cut.

use std::fmt;
use std::io::Read as _;

use ruzstd::decoding::errors::{FrameDecoderError, FrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::WINDOW_LIMIT;
use super::error::{BundleError, PackError};
use super::inspect::Sink;

/// First bytes of a frame.
pub(super) const MAGIC: [u8; 4] = 0xfd2f_b528u32.to_le_bytes();

const BUFFER: usize = 32 << 10;
const BLOCK_LIMIT: usize = 128 << 10;

/// Whether these are the first bytes of a skippable frame.
pub(super) fn is_skippable(magic: [u8; 4]) -> bool {
    u32::from_le_bytes(magic) & 0xffff_fff0 == 0x184d_2a50
}

/// What `piece` collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Magic,
    SkipLength,
    Descriptor,
    Header,
    BlockHeader,
    Block { last: bool },
}

/// A zstd decoder that is given its input in pieces.
pub(super) struct Unzstd {
    decoder: FrameDecoder,
    part: Part,
    piece: Vec<u8>,
    /// Length at which `piece` is complete.
    wanted: usize,
    /// Bytes of a skippable frame still to come.
    skip: u32,
    frames: u64,
    has_checksum: bool,
    declared: Option<u64>,
    produced: u64,
    out: Vec<u8>,
    packed: u64,
}

impl fmt::Debug for Unzstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unzstd")
            .field("part", &self.part)
            .field("packed", &self.packed)
            .finish_non_exhaustive()
    }
}

impl Unzstd {
    pub(super) fn new() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_LIMIT);
        Self {
            decoder,
            part: Part::Magic,
            piece: Vec::new(),
            wanted: 4,
            skip: 0,
            frames: 0,
            has_checksum: false,
            declared: None,
            produced: 0,
            out: vec![0; BUFFER],
            packed: 0,
        }
    }

    /// Takes the next piece and hands on what comes out.
    pub(super) fn push(&mut self, mut input: &[u8], sink: &mut impl Sink) -> Result<(), BundleError> {
        while !input.is_empty() {
            if self.skip > 0 {
                let skipped = input.len().min(self.skip as usize);
                // At most `skip`, so it fits.
                self.skip -= skipped as u32;
                self.packed += skipped as u64;
                input = input.get(skipped..).unwrap_or_default();
                continue;
            }
            let taken = input.len().min(self.wanted.saturating_sub(self.piece.len()));
            let (head, rest) = input.split_at(taken);
            self.piece.extend_from_slice(head);
            self.packed += taken as u64;
            input = rest;
            if self.piece.len() >= self.wanted {
                self.complete(sink)?;
            }
        }
        Ok(())
    }

    /// Whether the stream may end here.
    pub(super) fn finish(&self) -> Result<(), PackError> {
        let between = self.part == Part::Magic && self.piece.is_empty() && self.skip == 0;
        if between && self.frames > 0 { Ok(()) } else { Err(PackError::Truncated) }
    }

    /// Begins another piece of so many bytes.
    fn expect(&mut self, part: Part, wanted: usize) {
        self.piece.clear();
        self.grow(part, wanted);
    }

    /// Lets the piece grow to so many bytes.
    fn grow(&mut self, part: Part, wanted: usize) {
        self.part = part;
        self.wanted = wanted;
    }

    fn complete(&mut self, sink: &mut impl Sink) -> Result<(), BundleError> {
        match self.part {
            Part::Magic => {
                let magic = self.word(0);
                if is_skippable(magic) {
                    self.grow(Part::SkipLength, 8);
                } else if magic == MAGIC {
                    self.grow(Part::Descriptor, 5);
                } else {
                    return Err(PackError::Trailing.into());
                }
            }
            Part::SkipLength => {
                self.skip = u32::from_le_bytes(self.word(4));
                self.expect(Part::Magic, 4);
            }
            Part::Descriptor => {
                let length = self.describe()?;
                self.grow(Part::Header, length);
            }
            Part::Header => self.begin_frame()?,
            Part::BlockHeader => {
                let word = u32::from_le_bytes(self.word(0));
                let (last, kind, size) = (word & 1 == 1, (word >> 1) & 3, (word >> 3) as usize);
                if kind == 3 || size > BLOCK_LIMIT {
                    return Err(PackError::Damaged.into());
                }
                // One byte is repeated `size` times in a block of kind 1.
                let content = if kind == 1 { 1 } else { size };
                let checksum = if last && self.has_checksum { 4 } else { 0 };
                self.grow(Part::Block { last }, 3 + content + checksum);
                if self.piece.len() >= self.wanted {
                    self.block(last, sink)?;
                }
            }
            Part::Block { last } => self.block(last, sink)?,
        }
        Ok(())
    }

    /// Four bytes of the piece, zeros where it is shorter.
    fn word(&self, at: usize) -> [u8; 4] {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(self.piece.iter().skip(at)) {
            *to = *from;
        }
        word
    }

    /// Reads the frame header's descriptor byte; answers the header's length, magic included.
    fn describe(&mut self) -> Result<usize, PackError> {
        let descriptor = self.piece.last().copied().unwrap_or(0);
        if descriptor & 0b1000 != 0 {
            return Err(PackError::Header);
        }
        self.has_checksum = descriptor & 0b100 != 0;
        let single = descriptor & 0b10_0000 != 0;
        let window = usize::from(!single);
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let size = match (descriptor >> 6, single) {
            (0, single) => usize::from(single),
            (1, _) => 2,
            (2, _) => 4,
            _ => 8,
        };
        // Known once the whole header is there; for now only whether there is one.
        self.declared = (size > 0).then_some(0);
        Ok(5 + window + dictionary + size)
    }

    fn begin_frame(&mut self) -> Result<(), PackError> {
        self.decoder.reset(self.piece.as_slice()).map_err(|error| match error {
            FrameDecoderError::WindowSizeTooBig { .. }
            | FrameDecoderError::FrameHeaderError(FrameHeaderError::WindowTooBig { .. }) => PackError::Window,
            FrameDecoderError::DictNotProvided { .. } => PackError::Dictionary,
            _ => PackError::Header,
        })?;
        self.declared = self.declared.map(|_| self.decoder.content_size());
        self.produced = 0;
        self.expect(Part::BlockHeader, 3);
        Ok(())
    }

    fn block(&mut self, last: bool, sink: &mut impl Sink) -> Result<(), BundleError> {
        self.decoder
            .decode_blocks(self.piece.as_slice(), BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| PackError::Damaged)?;
        loop {
            let read = self.decoder.read(&mut self.out).map_err(|_| PackError::Damaged)?;
            if read == 0 {
                break;
            }
            self.produced += read as u64;
            sink.take(self.packed, self.out.get(..read).unwrap_or_default())?;
        }
        if !last {
            self.expect(Part::BlockHeader, 3);
            return Ok(());
        }
        if self.declared.is_some_and(|declared| declared != self.produced) {
            return Err(PackError::Size.into());
        }
        if self.has_checksum
            && self.decoder.get_checksum_from_data() != self.decoder.get_calculated_checksum()
        {
            return Err(PackError::Checksum.into());
        }
        self.frames += 1;
        self.expect(Part::Magic, 4);
        Ok(())
    }
}
