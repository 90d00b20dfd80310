//! Bundles: a folder as a deterministic tar.zst.
//!
//! `.git` is never in it; `.gitignore` and `.flareignore` (which wins) apply, nested ones too, whether or not there
//! is a repository; nothing outside the folder is looked at. Entries are sorted by the bytes of their paths, owners
//! and times are normalised, hard links become files: the same folder always gives the same bytes.

mod archive;
mod folder;
mod pack;
mod starter;

use std::path::Path;

pub use folder::collect;
pub use pack::{Packed, pack};
pub use starter::{starter, write_starter};

use burstflare_core::domain::bundle::MANIFEST_NAME;
use burstflare_core::domain::manifest::{self, ManifestLimits};

use crate::exit::{Exit, Failure};

/// One entry of a bundle.
#[derive(Debug)]
pub struct Item {
    /// Below the folder, without a leading slash.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What an entry is made of.
#[derive(Debug)]
pub enum Content {
    /// A folder.
    Folder,
    /// A file on this disk, with the size it had when it was found.
    File(std::path::PathBuf, u64),
    /// A file that comes with this program.
    Embedded(&'static [u8]),
    /// A symbolic link and its target.
    Link(Vec<u8>),
}

/// Whether the folder is a template: whether it holds a manifest.
#[must_use]
pub fn is_template(dir: &Path) -> bool {
    dir.join(MANIFEST_NAME).symlink_metadata().is_ok()
}

/// What the folder holds that another tool would build a container from; not supported yet.
#[must_use]
pub fn foreign_manifest(dir: &Path) -> Option<&'static str> {
    [".devcontainer/devcontainer.json", ".devcontainer.json", "devcontainer.json", "Dockerfile"]
        .into_iter()
        .find(|name| dir.join(name).is_file())
}

/// Reads the folder's manifest before anything is sent. The server reads it again.
///
/// # Errors
/// `Usage` with line and key of the first mistake.
pub fn check_manifest(dir: &Path) -> Result<(), Failure> {
    let path = dir.join(MANIFEST_NAME);
    let text = std::fs::read_to_string(&path).map_err(|error| Failure {
        exit: Exit::Usage,
        ..Failure::local(format_args!("cannot read {}", path.display()), error)
    })?;
    manifest::parse(&text, &ManifestLimits::default()).map(drop).map_err(|refused| {
        Failure::usage(format!("{}: {refused}", path.display()))
            .hint("Correct it and upload again; nothing was sent.")
    })
}
