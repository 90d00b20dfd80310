//! What a bundle may hold: the entry policy, without any reading or writing.
//!
//! The agent applies it while it unpacks, the edge and the command line before they accept or send a bundle. It is
//! told about the archive's members in order, as (path bytes, kind, mode, size, link target), and refuses the first
//! one that breaks a rule. What it lets pass can be unpacked below one folder without ever leaving it: no name is
//! absolute or holds `..`, nothing is written through a link, and links only point inside.

use std::collections::HashMap;

use super::path;

/// Upper bounds of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleLimits {
    /// Entries, folders that are only implied by a longer path included.
    pub entries: u64,
    /// Bytes of one segment of a path.
    pub name: usize,
    /// Bytes of a whole path or link target.
    pub path: usize,
    /// Segments of a path.
    pub depth: usize,
    /// Bytes of all files together, unpacked.
    pub expanded: u64,
    /// Unpacked bytes for each packed byte, once more than [`Self::ratio_from`] bytes are unpacked.
    pub ratio: u64,
    /// Below so many unpacked bytes the ratio does not matter: small bundles of zeros are harmless.
    pub ratio_from: u64,
}

impl Default for BundleLimits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            name: 255,
            path: 4096,
            depth: 64,
            expanded: 8 << 30,
            ratio: 250,
            ratio_from: 64 << 20,
        }
    }
}

/// Type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleKind {
    /// Folder.
    Folder,
    /// Regular file.
    File,
    /// Symbolic link.
    Link,
    /// Hard link to an earlier member.
    HardLink,
    /// Device, pipe, sparse file or anything else.
    Other,
}

/// One member as the archive names it, extension headers applied.
#[derive(Debug, Clone, Copy)]
pub struct BundleEntry<'a> {
    /// Its name.
    pub path: &'a [u8],
    /// Its type.
    pub kind: BundleKind,
    /// Its mode, all bits.
    pub mode: u32,
    /// Bytes that follow; what the reader will really deliver, not what a header claims.
    pub size: u64,
    /// Where a link points.
    pub link: Option<&'a [u8]>,
}

/// Why a bundle is refused. Paths are in the text form of [`path`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefusal {
    /// `/etc/passwd`, `a/../b`.
    #[error("`{0}` is not a path below the bundle's folder")]
    Outside(String),
    /// An empty name or one with a NUL byte.
    #[error("`{0}` is not a name")]
    Malformed(String),
    /// A bound of [`BundleLimits`] on one entry.
    #[error("`{0}` is too long or too deep")]
    TooLong(String),
    /// The same path again.
    #[error("`{0}` is in the bundle twice")]
    Duplicate(String),
    /// Below something that is no folder: written through a link it could land anywhere.
    #[error("`{0}` lies below something that is not a folder")]
    ThroughLink(String),
    /// A link that would leave the folder, or goes down before it goes up.
    #[error("link `{0}` points outside of the bundle or goes up after going down")]
    LinkOutside(String),
    /// Hard links, devices, pipes, sparse files.
    #[error("`{0}` is neither file, folder nor symbolic link (pack hard links as files)")]
    Kind(String),
    /// Set-user-id or set-group-id.
    #[error("`{0}` has a set-id bit")]
    SetId(String),
    /// Data behind something that has none.
    #[error("`{0}` is not a file but has content")]
    Content(String),
    /// More than [`BundleLimits::entries`].
    #[error("more than {0} entries")]
    Entries(u64),
    /// More than [`BundleLimits::expanded`].
    #[error("more than {0} bytes unpacked")]
    Expanded(u64),
    /// Over [`BundleLimits::ratio`].
    #[error("more than {0} bytes unpacked for each packed byte")]
    Ratio(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Implied,
    Folder,
    Leaf,
}

/// The policy at work on one bundle.
#[derive(Debug)]
pub struct BundlePolicy {
    limits: BundleLimits,
    seen: HashMap<Vec<u8>, Seen>,
    expanded: u64,
}

impl BundlePolicy {
    /// Begins with the first member.
    #[must_use]
    pub fn new(limits: BundleLimits) -> Self {
        Self { limits, seen: HashMap::new(), expanded: 0 }
    }

    /// Judges the next member. The answer is its path without `.` segments and surplus slashes, the one to unpack
    /// it at; empty for the bundle's own folder.
    ///
    /// # Errors
    /// The rule that the member breaks.
    pub fn check(&mut self, entry: BundleEntry<'_>) -> Result<Vec<u8>, BundleRefusal> {
        let shown = || path::encode(entry.path.get(..200).unwrap_or(entry.path));
        let clean = self.clean(entry.path, shown)?;
        match entry.kind {
            BundleKind::Folder | BundleKind::File | BundleKind::Link => {}
            BundleKind::HardLink | BundleKind::Other => return Err(BundleRefusal::Kind(shown())),
        }
        if entry.mode & 0o6000 != 0 {
            return Err(BundleRefusal::SetId(shown()));
        }
        if entry.kind == BundleKind::Link {
            self.check_link(&clean, entry.link.unwrap_or_default(), shown)?;
        }
        if entry.kind == BundleKind::File {
            self.expanded = self.expanded.saturating_add(entry.size);
            if self.expanded > self.limits.expanded {
                return Err(BundleRefusal::Expanded(self.limits.expanded));
            }
        } else if entry.size != 0 {
            return Err(BundleRefusal::Content(shown()));
        }
        self.place(&clean, entry.kind, shown)?;
        Ok(clean)
    }

    /// Judges how much came out of so many packed bytes; to be asked again and again while unpacking.
    ///
    /// # Errors
    /// `Ratio` for a bundle that explodes.
    pub fn check_ratio(&self, packed: u64, unpacked: u64) -> Result<(), BundleRefusal> {
        if unpacked > self.limits.ratio_from && unpacked / self.limits.ratio > packed {
            return Err(BundleRefusal::Ratio(self.limits.ratio));
        }
        Ok(())
    }

    fn clean(&self, raw: &[u8], shown: impl Fn() -> String) -> Result<Vec<u8>, BundleRefusal> {
        if raw.is_empty() || raw.contains(&0) {
            return Err(BundleRefusal::Malformed(shown()));
        }
        if raw.first() == Some(&b'/') {
            return Err(BundleRefusal::Outside(shown()));
        }
        let mut clean = Vec::with_capacity(raw.len());
        let mut depth = 0;
        for segment in raw.split(|byte| *byte == b'/') {
            match segment {
                b"" | b"." => continue,
                b".." => return Err(BundleRefusal::Outside(shown())),
                _ => {}
            }
            depth += 1;
            if depth > self.limits.depth || segment.len() > self.limits.name {
                return Err(BundleRefusal::TooLong(shown()));
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(segment);
        }
        if clean.len() > self.limits.path {
            return Err(BundleRefusal::TooLong(shown()));
        }
        Ok(clean)
    }

    /// A target may go up at its beginning only, and not above the bundle's folder. Its parents are real folders, so
    /// going up is what it looks like; and going down through other links stays inside because they do. `a/../..`
    /// could not be judged so: what `a/..` is depends on where `a` points.
    fn check_link(
        &self,
        clean: &[u8],
        target: &[u8],
        shown: impl Fn() -> String,
    ) -> Result<(), BundleRefusal> {
        if target.is_empty() || target.contains(&0) {
            return Err(BundleRefusal::Malformed(shown()));
        }
        if target.len() > self.limits.path {
            return Err(BundleRefusal::TooLong(shown()));
        }
        if target.first() == Some(&b'/') {
            return Err(BundleRefusal::LinkOutside(shown()));
        }
        let mut above = clean.iter().filter(|byte| **byte == b'/').count();
        let mut down = false;
        for segment in target.split(|byte| *byte == b'/') {
            match segment {
                b"" | b"." => {}
                b".." if down || above == 0 => return Err(BundleRefusal::LinkOutside(shown())),
                b".." => above -= 1,
                _ if segment.len() > self.limits.name => return Err(BundleRefusal::TooLong(shown())),
                _ => down = true,
            }
        }
        Ok(())
    }

    fn place(
        &mut self,
        clean: &[u8],
        kind: BundleKind,
        shown: impl Fn() -> String,
    ) -> Result<(), BundleRefusal> {
        if clean.is_empty() && kind != BundleKind::Folder {
            return Err(BundleRefusal::Outside(shown()));
        }
        for (at, _) in clean.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = clean.get(..at).unwrap_or_default();
            match self.seen.get(parent) {
                Some(Seen::Leaf) => return Err(BundleRefusal::ThroughLink(shown())),
                Some(Seen::Folder | Seen::Implied) => {}
                None => self.remember(parent, Seen::Implied)?,
            }
        }
        match (self.seen.get(clean), kind) {
            (None, BundleKind::Folder) => self.remember(clean, Seen::Folder),
            (None, _) => self.remember(clean, Seen::Leaf),
            (Some(Seen::Implied), BundleKind::Folder) => {
                self.seen.insert(clean.to_vec(), Seen::Folder);
                Ok(())
            }
            (Some(_), _) => Err(BundleRefusal::Duplicate(shown())),
        }
    }

    fn remember(&mut self, path: &[u8], what: Seen) -> Result<(), BundleRefusal> {
        if self.seen.len() as u64 >= self.limits.entries {
            return Err(BundleRefusal::Entries(self.limits.entries));
        }
        self.seen.insert(path.to_vec(), what);
        Ok(())
    }
}

impl Default for BundlePolicy {
    fn default() -> Self {
        Self::new(BundleLimits::default())
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
