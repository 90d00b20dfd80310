use burstflare_ports::wire::bundle::BundleRefusal;

use crate::error::{Error, Kind};

/// Why a bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No byte came.
    #[error("the bundle is empty")]
    Empty,
    /// The first bytes are neither zstd's nor gzip's; says what they look like.
    #[error("the bundle is {0}, neither tar.zst nor tar.gz")]
    Format(&'static str),
    /// Over [`super::BundleLimits::packed`].
    #[error("the bundle is larger than {0} bytes")]
    TooLarge(u64),
    /// The unpacked stream is over the limit of [`super::BundleLimits::entries`].
    #[error("the bundle unpacks to more than {0} bytes")]
    Unpacked(u64),
    /// Over [`super::BundleLimits::names`].
    #[error("the paths in the bundle have more than {0} bytes together")]
    Names(u64),
    /// The compression is damaged or uses what is not accepted.
    #[error("the bundle cannot be unpacked: {0}")]
    Pack(PackError),
    /// The tar inside is damaged or uses what is not accepted.
    #[error("the tar in the bundle is refused at byte {at}: {problem}")]
    Tar {
        /// Where in the unpacked stream the block begins.
        at: u64,
        /// What is wrong.
        problem: TarError,
    },
    /// A member breaks the entry policy.
    #[error("the bundle is refused: {0}")]
    Entry(BundleRefusal),
    /// There is no `flare.toml` at the root.
    #[error("the bundle has no flare.toml at its root")]
    ManifestMissing,
    /// There are two.
    #[error("the bundle has more than one flare.toml at its root")]
    ManifestTwice,
    /// It is a folder or a link.
    #[error("flare.toml in the bundle is not a regular file")]
    ManifestNotAFile,
    /// Over [`super::BundleLimits::manifest`].
    #[error("flare.toml in the bundle is larger than {0} bytes")]
    ManifestTooLarge(u64),
    /// It is not UTF-8; the line where that shows.
    #[error("flare.toml in the bundle is not UTF-8 text (line {0})")]
    ManifestNotText(u32),
}

/// What is wrong with the compressed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// It ends in the middle.
    #[error("it is cut off")]
    Truncated,
    /// Something follows its end.
    #[error("there are other bytes behind its end")]
    Trailing,
    /// A header that the standard forbids, or that asks for what is not supported.
    #[error("a header of the compression is malformed")]
    Header,
    /// The compressed data contradicts itself.
    #[error("the compressed data is damaged")]
    Damaged,
    /// The checksum does not fit the data.
    #[error("the checksum does not match")]
    Checksum,
    /// The declared size does not fit the data.
    #[error("the declared size does not match")]
    Size,
    /// A zstd window over [`super::WINDOW_LIMIT`].
    #[error("it needs a window of more than 8 MiB (packed with --long or --ultra?)")]
    Window,
    /// A zstd frame that needs a dictionary.
    #[error("it needs a dictionary")]
    Dictionary,
}

/// What is wrong with the tar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// It ends within a member or without its two blocks of zeros.
    #[error("it is cut off")]
    Truncated,
    /// Something other than zeros follows the end.
    #[error("there are other bytes behind its end")]
    Trailing,
    /// A header's checksum is wrong: damage, or no tar at all.
    #[error("this is no tar header, or a damaged one")]
    Checksum,
    /// A number of the header is malformed or out of range.
    #[error("the field `{0}` of the header is not a number in range")]
    Number(&'static str),
    /// A type that is never accepted.
    #[error("`{path}` is {what}")]
    Type {
        /// The member.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A regular file whose name ends with a slash: old readers make a folder of it.
    #[error("`{0}` is a file with the name of a folder")]
    FileAsFolder(String),
    /// An extension header longer than 64 KiB.
    #[error("an extension header is longer than 64 KiB")]
    LongExtension,
    /// An extension header that is malformed.
    #[error("an extension header is malformed")]
    Extension,
    /// The same extension twice for one member, or a pax and a GNU one for the same thing.
    #[error("{0} is given twice for one member")]
    Ambiguous(&'static str),
    /// pax `size` says otherwise than the header.
    #[error("the pax header says {pax} bytes, the header {header}")]
    SizeMismatch {
        /// The pax record.
        pax: u64,
        /// The header's field.
        header: u64,
    },
    /// A global pax header that would rename or resize every member.
    #[error("a global pax header sets `{0}`")]
    Global(&'static str),
    /// Extension headers with no member behind them.
    #[error("an extension header has no member")]
    Dangling,
}

impl BundleError {
    /// What kind of refusal it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::TooLarge(_) | Self::Unpacked(_) | Self::Names(_) | Self::ManifestTooLarge(_) => {
                Kind::TooLarge
            }
            Self::Entry(BundleRefusal::Entries(_) | BundleRefusal::Expanded(_) | BundleRefusal::Ratio(_)) => {
                Kind::TooLarge
            }
            _ => Kind::Invalid,
        }
    }

    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty | Self::Format(_) => "bundle_format",
            Self::Pack(_) | Self::Tar { .. } => "bundle_damaged",
            Self::Entry(_) if self.kind() == Kind::Invalid => "bundle_entry_refused",
            Self::TooLarge(_) | Self::Unpacked(_) | Self::Names(_) | Self::Entry(_) => "bundle_too_large",
            Self::ManifestMissing => "manifest_missing",
            Self::ManifestTwice
            | Self::ManifestNotAFile
            | Self::ManifestTooLarge(_)
            | Self::ManifestNotText(_) => "manifest_invalid",
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::Format(_) => {
                "Upload the folder with `flare template upload`, which packs it."
            }
            Self::Pack(PackError::Window) => "Pack it with `zstd -19` or less.",
            Self::Pack(_) | Self::Tar { .. } => {
                "Pack it again and upload it once more; `flare template upload` packs a folder as it has to be."
            }
            Self::Entry(_) if self.kind() == Kind::Invalid => {
                "Remove it from the folder, or name it in .flareignore, then upload again."
            }
            Self::TooLarge(_) | Self::Unpacked(_) | Self::Names(_) | Self::Entry(_) => {
                "Name what a build can make or fetch itself in .flareignore, then upload again."
            }
            Self::ManifestMissing => "Write one with `flare template init`, then upload again.",
            Self::ManifestTwice | Self::ManifestNotAFile => "Keep one regular file of that name.",
            Self::ManifestTooLarge(_) => {
                "Move long steps into a script in the folder and call it from `setup`."
            }
            Self::ManifestNotText(_) => "Save it as UTF-8.",
        }
    }
}

impl From<PackError> for BundleError {
    fn from(error: PackError) -> Self {
        Self::Pack(error)
    }
}

impl From<BundleRefusal> for BundleError {
    fn from(refusal: BundleRefusal) -> Self {
        Self::Entry(refusal)
    }
}

impl From<BundleError> for Error {
    fn from(error: BundleError) -> Self {
        let mut refusal = Self::new(error.kind(), error.code(), format!("{error}."), error.hint());
        refusal.field = Some("bundle");
        refusal
    }
}
