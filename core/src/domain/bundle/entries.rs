//! What the members of a bundle are held against, and the manifest that is kept of them.

use burstflare_ports::wire::bundle::{BundleEntry, BundleKind, BundlePolicy};

use super::error::BundleError;
use super::tar::Members;
use super::{BundleLimits, MANIFEST_NAME};

/// Judges members and collects `flare.toml`.
#[derive(Debug)]
pub(super) struct Entries {
    limits: BundleLimits,
    policy: BundlePolicy,
    count: u64,
    file_bytes: u64,
    names: u64,
    last: Vec<u8>,
    manifest: Option<Vec<u8>>,
}

impl Entries {
    pub(super) fn new(limits: BundleLimits) -> Self {
        Self {
            limits,
            policy: BundlePolicy::new(limits.entries),
            count: 0,
            file_bytes: 0,
            names: 0,
            last: Vec::new(),
            manifest: None,
        }
    }

    pub(super) fn policy(&self) -> &BundlePolicy {
        &self.policy
    }

    /// The manifest's text, the number of members and the bytes of all files.
    pub(super) fn finish(self) -> Result<(String, u64, u64), BundleError> {
        let bytes = self.manifest.ok_or(BundleError::ManifestMissing)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok((text, self.count, self.file_bytes)),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let lines = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count();
                Err(BundleError::ManifestNotText(u32::try_from(lines + 1).unwrap_or(u32::MAX)))
            }
        }
    }

    /// Counts the memory of a path and of the folders on its way. Those it shares with the path before are there
    /// already; in an archive that is not sorted some are counted twice.
    fn count_names(&mut self, path: Vec<u8>) -> Result<(), BundleError> {
        let same = path.iter().zip(&self.last).take_while(|(new, old)| new == old).count();
        let folders = path.iter().enumerate().skip(same).filter(|(_, byte)| **byte == b'/');
        let bytes = folders.map(|(at, _)| at as u64).sum::<u64>() + path.len() as u64;
        self.names = self.names.saturating_add(bytes);
        self.last = path;
        if self.names > self.limits.names {
            return Err(BundleError::Names(self.limits.names));
        }
        Ok(())
    }
}

impl Members for Entries {
    fn member(&mut self, entry: BundleEntry<'_>) -> Result<bool, BundleError> {
        let is_manifest = is_manifest(entry.path);
        if is_manifest && self.manifest.is_some() {
            return Err(BundleError::ManifestTwice);
        }
        let path = self.policy.check(entry)?;
        self.count += 1;
        self.file_bytes += entry.size;
        self.count_names(path)?;
        if !is_manifest {
            return Ok(false);
        }
        if entry.kind != BundleKind::File {
            return Err(BundleError::ManifestNotAFile);
        }
        if entry.size > self.limits.manifest {
            return Err(BundleError::ManifestTooLarge(self.limits.manifest));
        }
        self.manifest = Some(Vec::new());
        Ok(true)
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(manifest) = &mut self.manifest {
            manifest.extend_from_slice(bytes);
        }
    }
}

/// Whether the path, with whatever `.` segments and slashes, is the manifest at the root.
fn is_manifest(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/').filter(|segment| !matches!(*segment, b"" | b"."));
    segments.next() == Some(MANIFEST_NAME.as_bytes()) && segments.next().is_none()
}
