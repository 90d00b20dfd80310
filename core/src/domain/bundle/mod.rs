//! Inspection of an uploaded bundle, piece by piece as it arrives.
//!
//! An [`Inspector`] is pushed the archive in pieces of any length, the way an upload delivers them, and never holds
//! more than the decoder's window (at most [`WINDOW_LIMIT`], for which zstd's ring buffer may take twice as much),
//! about 3 MiB of buffers, and the names it has seen ([`BundleLimits::names`]). It unpacks, walks the tar and asks
//! the entry policy that the agent applies too ([`burstflare_ports::wire::bundle`]). What it returns is the text of
//! `flare.toml`; nothing is written anywhere.
//!
//! Where standards leave room, an archive that two readers could read differently is refused:
//!
//! - **Compression.** zstd (RFC 8878) or gzip (RFC 1952), told apart by their first bytes. Several frames or members
//!   in a row are one stream, as both standards say; zstd's skippable frames are skipped. Checksums are verified
//!   where there are any (gzip always has one), as are declared sizes. Bytes behind the last frame are refused.
//! - **tar.** POSIX ustar with pax records, GNU long names, and plain v7. Header checksums are verified. One pax, one
//!   long name and one long link header at most per member, and not both a pax and a GNU name. A pax `size` has to
//!   repeat what the header says: nothing below the limits needs another one, and a reader that takes the other value
//!   would find other members. The end is two blocks of zeros, followed by nothing but zeros; an archive without it
//!   counts as cut off.
//! - **Content.** Exactly one `flare.toml` at the root, a regular file of UTF-8 text.
//!
//! A refusal is final: every later call answers the same one.

mod entries;
mod error;
mod gzip;
mod inspect;
mod tar;
#[cfg(test)]
mod tests;
mod zstd;

pub use error::{BundleError, PackError, TarError};
pub use inspect::{Inspected, Inspector};

use burstflare_ports::wire::bundle::BundleLimits as EntryLimits;

/// The largest window of a zstd frame: what `zstd -19` uses and `--long` exceeds.
pub const WINDOW_LIMIT: u64 = 8 << 20;
/// Name of the manifest at the root of a bundle.
pub const MANIFEST_NAME: &str = "flare.toml";

/// Upper bounds of an upload. The defaults are a little stricter than what the agent lets pass, so that a bundle that
/// was accepted here never fails there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleLimits {
    /// Bytes of the archive as it is sent.
    pub packed: u64,
    /// Bytes of all distinct paths together, each folder on the way counted once if the members are sorted. It bounds
    /// the memory of the check for duplicates.
    pub names: u64,
    /// Bytes of `flare.toml`.
    pub manifest: u64,
    /// Rules of the entries. `expanded` here also bounds the whole unpacked stream, headers and padding included; the
    /// ratio is watched while unpacking, within the precision of a decoder's buffer.
    pub entries: EntryLimits,
}

impl Default for BundleLimits {
    fn default() -> Self {
        Self {
            packed: 100 << 20,
            names: 32 << 20,
            manifest: 64 << 10,
            entries: EntryLimits { expanded: 4 << 30, ratio: 200, ..EntryLimits::default() },
        }
    }
}
