//! gzip (RFC 1952), pushed.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::error::{BundleError, PackError};
use super::inspect::Sink;

/// First bytes of a member.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

const BUFFER: usize = 32 << 10;
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Where in a member the next byte belongs.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// The ten fixed bytes; also the place between two members when none of them is there yet.
    Fixed(usize),
    ExtraLength(usize),
    Extra(u16),
    Name,
    Comment,
    HeaderCrc(usize),
    Body,
    Trailer(usize),
}

/// A gzip decoder that is given its input in pieces.
#[derive(Debug)]
pub(super) struct Gunzip {
    inflate: Decompress,
    part: Part,
    flags: u8,
    /// The fixed bytes or the trailer, as far as they have come.
    small: [u8; 10],
    header_crc: Crc,
    body_crc: Crc,
    out: Vec<u8>,
    packed: u64,
    members: u64,
}

impl Gunzip {
    pub(super) fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            part: Part::Fixed(0),
            flags: 0,
            small: [0; 10],
            header_crc: Crc::new(),
            body_crc: Crc::new(),
            out: vec![0; BUFFER],
            packed: 0,
            members: 0,
        }
    }

    /// Takes the next piece and hands on what comes out.
    pub(super) fn push(&mut self, mut input: &[u8], sink: &mut impl Sink) -> Result<(), BundleError> {
        while let Some((&byte, rest)) = input.split_first() {
            if matches!(self.part, Part::Body) {
                input = self.inflate(input, sink)?;
                continue;
            }
            input = rest;
            self.packed += 1;
            self.header_or_trailer(byte)?;
        }
        Ok(())
    }

    /// Whether the stream may end here.
    pub(super) fn finish(&self) -> Result<(), PackError> {
        if matches!(self.part, Part::Fixed(0)) && self.members > 0 {
            Ok(())
        } else {
            Err(PackError::Truncated)
        }
    }

    fn inflate<'a>(&mut self, mut input: &'a [u8], sink: &mut impl Sink) -> Result<&'a [u8], BundleError> {
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, &mut self.out, FlushDecompress::None)
                .map_err(|_| PackError::Damaged)?;
            // Both differences are bounded by the slices that were passed.
            let read = (self.inflate.total_in() - read) as usize;
            let written = (self.inflate.total_out() - written) as usize;
            input = input.get(read..).unwrap_or_default();
            self.packed += read as u64;
            let out = self.out.get(..written).unwrap_or_default();
            self.body_crc.update(out);
            sink.take(self.packed, out)?;
            if status == Status::StreamEnd {
                self.part = Part::Trailer(0);
                return Ok(input);
            }
            // A full buffer may have more behind it even when all input is read.
            if written < self.out.len() {
                if input.is_empty() {
                    return Ok(input);
                }
                if read == 0 && written == 0 {
                    return Err(PackError::Damaged.into());
                }
            }
        }
    }

    fn header_or_trailer(&mut self, byte: u8) -> Result<(), PackError> {
        match self.part {
            Part::Fixed(at) => {
                // Garbage behind a member is told from a damaged header by the first byte of the magic.
                if at == 0 && self.members > 0 && byte != MAGIC[0] {
                    return Err(PackError::Trailing);
                }
                self.small[at] = byte;
                self.header_crc.update(&[byte]);
                if at + 1 < self.small.len() {
                    self.part = Part::Fixed(at + 1);
                    return Ok(());
                }
                let [magic0, magic1, method, flags, ..] = self.small;
                if [magic0, magic1] != MAGIC || method != 8 || flags & RESERVED != 0 {
                    return Err(PackError::Header);
                }
                self.flags = flags;
                self.after_fixed();
            }
            Part::ExtraLength(at) => {
                self.small[at] = byte;
                self.header_crc.update(&[byte]);
                if at == 0 {
                    self.part = Part::ExtraLength(1);
                } else {
                    self.extra(u16::from_le_bytes([self.small[0], self.small[1]]));
                }
            }
            Part::Extra(left) => {
                self.header_crc.update(&[byte]);
                self.extra(left - 1);
            }
            Part::Name => {
                self.header_crc.update(&[byte]);
                if byte == 0 {
                    self.after_name();
                }
            }
            Part::Comment => {
                self.header_crc.update(&[byte]);
                if byte == 0 {
                    self.after_comment();
                }
            }
            Part::HeaderCrc(at) => {
                self.small[at] = byte;
                if at == 0 {
                    self.part = Part::HeaderCrc(1);
                } else if u32::from(u16::from_le_bytes([self.small[0], self.small[1]]))
                    == self.header_crc.sum() & 0xffff
                {
                    self.begin_body();
                } else {
                    return Err(PackError::Checksum);
                }
            }
            // Never asked in this part.
            Part::Body => {}
            Part::Trailer(at) => {
                self.small[at] = byte;
                if at < 7 {
                    self.part = Part::Trailer(at + 1);
                } else {
                    self.end_member()?;
                }
            }
        }
        Ok(())
    }

    fn after_fixed(&mut self) {
        if self.flags & EXTRA != 0 {
            self.part = Part::ExtraLength(0);
        } else {
            self.after_extra();
        }
    }

    fn extra(&mut self, left: u16) {
        if left > 0 {
            self.part = Part::Extra(left);
        } else {
            self.after_extra();
        }
    }

    fn after_extra(&mut self) {
        if self.flags & NAME != 0 {
            self.part = Part::Name;
        } else {
            self.after_name();
        }
    }

    fn after_name(&mut self) {
        if self.flags & COMMENT != 0 {
            self.part = Part::Comment;
        } else {
            self.after_comment();
        }
    }

    fn after_comment(&mut self) {
        if self.flags & HEADER_CRC != 0 {
            self.part = Part::HeaderCrc(0);
        } else {
            self.begin_body();
        }
    }

    fn begin_body(&mut self) {
        self.inflate.reset(false);
        self.body_crc.reset();
        self.part = Part::Body;
    }

    fn end_member(&mut self) -> Result<(), PackError> {
        let [c0, c1, c2, c3, s0, s1, s2, s3, ..] = self.small;
        if u32::from_le_bytes([c0, c1, c2, c3]) != self.body_crc.sum() {
            return Err(PackError::Checksum);
        }
        // Both count modulo 2^32.
        if u32::from_le_bytes([s0, s1, s2, s3]) != self.body_crc.amount() {
            return Err(PackError::Size);
        }
        self.members += 1;
        self.header_crc.reset();
        self.part = Part::Fixed(0);
        Ok(())
    }
}
