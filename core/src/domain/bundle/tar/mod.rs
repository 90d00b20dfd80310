//! tar (POSIX.1-2017 pax interchange format, ustar, GNU long names, v7), pushed.

mod header;
mod pax;

use burstflare_ports::wire::bundle::{BundleEntry, BundleKind};
use burstflare_ports::wire::path;

use self::header::{BLOCK, Header};
use self::pax::Pax;
use super::error::{BundleError, TarError};

/// The longest extension header, in bytes: room for a path and the extended attributes that some packers add.
const EXTENSION_LIMIT: u64 = 64 << 10;

/// Whom the reader tells what it finds.
pub(super) trait Members {
    /// The next member. `true` where its content is wanted.
    fn member(&mut self, entry: BundleEntry<'_>) -> Result<bool, BundleError>;
    /// A piece of the content of a member that was wanted.
    fn content(&mut self, bytes: &[u8]);
}

/// Extension headers that wait for their member.
#[derive(Debug, Default)]
struct Extensions {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    /// The content of an extension header of this type.
    Extension {
        kind: u8,
        left: u64,
        padding: u64,
    },
    Content {
        left: u64,
        padding: u64,
        wanted: bool,
    },
    Padding(u64),
    /// One block of zeros has come.
    HalfEnd,
    End,
}

/// A tar reader that is given its input in pieces.
#[derive(Debug)]
pub(super) struct TarReader {
    part: Part,
    block: [u8; BLOCK],
    filled: usize,
    /// The content of an extension header.
    collected: Vec<u8>,
    extensions: Extensions,
    /// Bytes read.
    offset: u64,
    /// Where the header block at work begins.
    begin: u64,
}

impl TarReader {
    pub(super) fn new() -> Self {
        Self {
            part: Part::Header,
            block: [0; BLOCK],
            filled: 0,
            collected: Vec::new(),
            extensions: Extensions::default(),
            offset: 0,
            begin: 0,
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, mut input: &[u8], members: &mut impl Members) -> Result<(), BundleError> {
        while !input.is_empty() {
            let taken = match self.part {
                Part::Header | Part::HalfEnd => self.fill(input, members)?,
                Part::Extension { kind, left, padding } => {
                    let bytes = up_to(input, left);
                    self.collected.extend_from_slice(bytes);
                    let left = left - bytes.len() as u64;
                    self.part = Part::Extension { kind, left, padding };
                    if left == 0 {
                        self.extension(kind).map_err(|problem| self.at(problem))?;
                        self.collected.clear();
                        self.part = Part::Padding(padding);
                    }
                    bytes.len()
                }
                Part::Content { left, padding, wanted } => {
                    let bytes = up_to(input, left);
                    if wanted {
                        members.content(bytes);
                    }
                    self.part = Part::Content { left: left - bytes.len() as u64, padding, wanted };
                    bytes.len()
                }
                Part::Padding(left) => {
                    let bytes = up_to(input, left);
                    self.part = Part::Padding(left - bytes.len() as u64);
                    bytes.len()
                }
                Part::End => {
                    if let Some(at) = input.iter().position(|byte| *byte != 0) {
                        self.begin = self.offset + at as u64;
                        return Err(self.at(TarError::Trailing));
                    }
                    input.len()
                }
            };
            self.offset += taken as u64;
            input = input.get(taken..).unwrap_or_default();
            self.settle();
        }
        Ok(())
    }

    /// Whether the archive may end here.
    pub(super) fn finish(&self) -> Result<(), BundleError> {
        if self.part == Part::End {
            Ok(())
        } else {
            Err(BundleError::Tar { at: self.offset, problem: TarError::Truncated })
        }
    }

    fn at(&self, problem: TarError) -> BundleError {
        BundleError::Tar { at: self.begin, problem }
    }

    /// Leaves parts that have nothing left.
    fn settle(&mut self) {
        if let Part::Content { left: 0, padding, .. } = self.part {
            self.part = Part::Padding(padding);
        }
        if self.part == Part::Padding(0) {
            self.part = Part::Header;
        }
    }

    fn fill(&mut self, input: &[u8], members: &mut impl Members) -> Result<usize, BundleError> {
        if self.filled == 0 {
            self.begin = self.offset;
        }
        let bytes = up_to(input, (BLOCK - self.filled) as u64);
        for (to, from) in self.block.iter_mut().skip(self.filled).zip(bytes) {
            *to = *from;
        }
        self.filled += bytes.len();
        if self.filled == BLOCK {
            self.filled = 0;
            self.header(members)?;
        }
        Ok(bytes.len())
    }

    fn header(&mut self, members: &mut impl Members) -> Result<(), BundleError> {
        let header = Header::parse(&self.block).map_err(|problem| self.at(problem))?;
        let Some(header) = header else {
            if self.extensions.pax.is_some()
                || self.extensions.name.is_some()
                || self.extensions.link.is_some()
            {
                return Err(self.at(TarError::Dangling));
            }
            self.part = if self.part == Part::HalfEnd { Part::End } else { Part::HalfEnd };
            return Ok(());
        };
        if self.part == Part::HalfEnd {
            return Err(self.at(TarError::Trailing));
        }
        self.part = match header.kind {
            b'x' | b'g' | b'L' | b'K' => {
                if header.size > EXTENSION_LIMIT {
                    return Err(self.at(TarError::LongExtension));
                }
                if header.size == 0 {
                    return Err(self.at(TarError::Extension));
                }
                Part::Extension { kind: header.kind, left: header.size, padding: padding(header.size) }
            }
            _ => self.member(header, members)?,
        };
        Ok(())
    }

    fn extension(&mut self, kind: u8) -> Result<(), TarError> {
        let set = |slot: &mut Option<Vec<u8>>, bytes: &[u8], what| {
            let text = bytes.strip_suffix(b"\0").unwrap_or(bytes);
            if text.is_empty() || text.contains(&0) {
                return Err(TarError::Extension);
            }
            match slot.replace(text.to_vec()) {
                None => Ok(()),
                Some(_) => Err(TarError::Ambiguous(what)),
            }
        };
        match kind {
            b'L' => set(&mut self.extensions.name, &self.collected, "the path"),
            b'K' => set(&mut self.extensions.link, &self.collected, "the link's target"),
            b'g' => Pax::parse(&self.collected)?.check_global(),
            _ => match self.extensions.pax.replace(Pax::parse(&self.collected)?) {
                None => Ok(()),
                Some(_) => Err(TarError::Ambiguous("the pax header")),
            },
        }
    }

    fn member(&mut self, header: Header, members: &mut impl Members) -> Result<Part, BundleError> {
        let Extensions { pax, name, link } = std::mem::take(&mut self.extensions);
        let pax = pax.unwrap_or_default();
        if let Some(size) = pax.size.filter(|size| *size != header.size) {
            return Err(self.at(TarError::SizeMismatch { pax: size, header: header.size }));
        }
        let path = one_of(pax.path, name, header.path, "the path").map_err(|problem| self.at(problem))?;
        let link =
            one_of(pax.link, link, header.link, "the link's target").map_err(|problem| self.at(problem))?;
        let shown = || path::encode(path.get(..200).unwrap_or(&path));
        if pax.sparse {
            return Err(self.at(TarError::Type { path: shown(), what: "a sparse file" }));
        }
        let kind = match header.kind {
            b'0' | 0 if path.ends_with(b"/") => return Err(self.at(TarError::FileAsFolder(shown()))),
            b'0' | 0 => BundleKind::File,
            b'1' => BundleKind::HardLink,
            b'2' => BundleKind::Link,
            b'5' => BundleKind::Folder,
            other => return Err(self.at(TarError::Type { path: shown(), what: type_name(other) })),
        };
        let links = matches!(kind, BundleKind::Link | BundleKind::HardLink);
        let entry = BundleEntry {
            path: &path,
            kind,
            mode: header.mode,
            size: header.size,
            link: links.then_some(link.as_slice()),
        };
        let wanted = members.member(entry)?;
        Ok(Part::Content { left: header.size, padding: padding(header.size), wanted })
    }
}

fn one_of(
    pax: Option<Vec<u8>>,
    gnu: Option<Vec<u8>>,
    header: Vec<u8>,
    what: &'static str,
) -> Result<Vec<u8>, TarError> {
    match (pax, gnu) {
        (Some(_), Some(_)) => Err(TarError::Ambiguous(what)),
        (Some(long), None) | (None, Some(long)) => Ok(long),
        (None, None) => Ok(header),
    }
}

fn type_name(kind: u8) -> &'static str {
    match kind {
        b'3' => "a character device",
        b'4' => "a block device",
        b'6' => "a named pipe",
        b'7' => "a contiguous file, which is not accepted",
        b'S' => "a sparse file",
        b'D' | b'M' | b'V' | b'N' => "a GNU entry of incremental or multi-volume archives",
        _ => "of an unknown type",
    }
}

/// Zeros that fill the last block of so many bytes.
fn padding(size: u64) -> u64 {
    match size % BLOCK as u64 {
        0 => 0,
        over => BLOCK as u64 - over,
    }
}

fn up_to(input: &[u8], most: u64) -> &[u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    input.get(..length).unwrap_or(input)
}
