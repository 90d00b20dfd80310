use super::BundleLimits;
use super::entries::Entries;
use super::error::{BundleError, PackError};
use super::gzip::{self, Gunzip};
use super::tar::TarReader;
use super::zstd::{self, Unzstd};

/// Takes what comes out of a decoder.
pub(super) trait Sink {
    /// The next unpacked bytes; so many packed ones have been read until now.
    fn take(&mut self, packed: u64, bytes: &[u8]) -> Result<(), BundleError>;
}

/// What a bundle that was found good holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The text of `flare.toml`.
    pub manifest: String,
    /// Members of the archive; folders that are only implied by a longer path do not count.
    pub entries: u64,
    /// Bytes of all files together.
    pub expanded_bytes: u64,
    /// Bytes of the archive.
    pub packed_bytes: u64,
}

/// Inspects one bundle; see the [module](super) for what it refuses.
///
/// ```
/// use burstflare_core::domain::bundle::{BundleError, BundleLimits, Inspector};
///
/// let mut inspector = Inspector::new(BundleLimits::default());
/// let refusal = inspector.push(b"PK\x03\x04 and so on");
/// assert_eq!(refusal, Err(BundleError::Format("a zip archive")));
/// assert_eq!(inspector.finish().err(), refusal.err());
/// ```
#[derive(Debug)]
pub struct Inspector {
    limits: BundleLimits,
    packed: u64,
    format: Format,
    contents: Contents,
    refusal: Option<BundleError>,
}

#[derive(Debug)]
enum Format {
    /// The first bytes, until there are enough to tell.
    Unknown(Vec<u8>),
    Gzip(Box<Gunzip>),
    Zstd(Box<Unzstd>),
}

/// The unpacked stream.
#[derive(Debug)]
struct Contents {
    limit: u64,
    unpacked: u64,
    tar: TarReader,
    entries: Entries,
}

impl Inspector {
    /// Begins with the first byte.
    #[must_use]
    pub fn new(limits: BundleLimits) -> Self {
        Self {
            limits,
            packed: 0,
            format: Format::Unknown(Vec::new()),
            contents: Contents {
                limit: limits.entries.expanded,
                unpacked: 0,
                tar: TarReader::new(),
                entries: Entries::new(limits),
            },
            refusal: None,
        }
    }

    /// Takes the next piece of the archive, of any length.
    ///
    /// # Errors
    /// The first thing that is wrong, as soon as it shows, and the same from then on.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BundleError> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        self.take(piece).inspect_err(|refusal| self.refusal = Some(refusal.clone()))
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// What [`Self::push`] refused, an archive that is cut off, or one without a manifest.
    pub fn finish(self) -> Result<Inspected, BundleError> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        match &self.format {
            Format::Unknown(head) if head.is_empty() => return Err(BundleError::Empty),
            Format::Unknown(head) => return Err(unknown(head)),
            Format::Gzip(decoder) => decoder.finish()?,
            Format::Zstd(decoder) => decoder.finish()?,
        }
        self.contents.tar.finish()?;
        let (manifest, entries, expanded_bytes) = self.contents.entries.finish()?;
        Ok(Inspected { manifest, entries, expanded_bytes, packed_bytes: self.packed })
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), BundleError> {
        self.packed = self.packed.saturating_add(piece.len() as u64);
        if self.packed > self.limits.packed {
            return Err(BundleError::TooLarge(self.limits.packed));
        }
        let mut rest = piece;
        if let Format::Unknown(head) = &mut self.format {
            let (first, behind) = piece.split_at(piece.len().min(4usize.saturating_sub(head.len())));
            head.extend_from_slice(first);
            rest = behind;
            let head = head.clone();
            let Some(magic) = head.first_chunk::<4>() else { return Ok(()) };
            self.format = detect(*magic)?;
            self.unpack(&head)?;
        }
        self.unpack(rest)
    }

    fn unpack(&mut self, piece: &[u8]) -> Result<(), BundleError> {
        match &mut self.format {
            Format::Gzip(decoder) => decoder.push(piece, &mut self.contents),
            Format::Zstd(decoder) => decoder.push(piece, &mut self.contents),
            Format::Unknown(_) => Ok(()),
        }
    }
}

impl Sink for Contents {
    fn take(&mut self, packed: u64, bytes: &[u8]) -> Result<(), BundleError> {
        self.unpacked = self.unpacked.saturating_add(bytes.len() as u64);
        if self.unpacked > self.limit {
            return Err(BundleError::Unpacked(self.limit));
        }
        self.entries.policy().check_ratio(packed, self.unpacked)?;
        self.tar.push(bytes, &mut self.entries)
    }
}

fn detect(magic: [u8; 4]) -> Result<Format, BundleError> {
    if magic == zstd::MAGIC || zstd::is_skippable(magic) {
        Ok(Format::Zstd(Box::new(Unzstd::new())))
    } else if magic.starts_with(&gzip::MAGIC) {
        Ok(Format::Gzip(Box::new(Gunzip::new())))
    } else {
        Err(unknown(&magic))
    }
}

/// Names what people upload by mistake. Plain tar begins with a name, so it is not told from other things.
fn unknown(head: &[u8]) -> BundleError {
    let begins_gzip = gzip::MAGIC.starts_with(head) || head.starts_with(&gzip::MAGIC);
    if head.len() < 4 && (zstd::MAGIC.starts_with(head) || begins_gzip) {
        return PackError::Truncated.into();
    }
    BundleError::Format(match head {
        [b'P', b'K', ..] => "a zip archive",
        [b'B', b'Z', b'h', ..] => "compressed by bzip2",
        [0xfd, b'7', b'z', b'X', ..] => "compressed by xz",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7-zip archive",
        [b'{' | b'[', ..] => "JSON",
        _ => "of an unknown format",
    })
}
