use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use burstflare_ports::wire::bundle::{BundleEntry, BundleKind, BundleLimits, BundlePolicy, BundleRefusal};
use burstflare_ports::wire::path;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::settle;
use crate::folder::{self, Missing, Trail};
use crate::tree::{HEADERS, Meter};

const BUFFER: usize = 128 << 10;
/// Of what was left out so much is named.
const NAMED: usize = 50;
/// Copies are larger than bundles; what they hold in memory is a name for each entry.
const LIMITS: BundleLimits = BundleLimits {
    entries: 300_000,
    name: 255,
    path: 4096,
    depth: 256,
    expanded: 256 << 30,
    ratio: u64::MAX,
    ratio_from: u64::MAX,
};

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Unpacked {
    /// Files, folders and links that are there now.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// How much was left out.
    pub skipped: u64,
    /// Some of it, with the reason, one sentence each.
    pub why: Vec<String>,
}

impl Unpacked {
    pub(super) fn skip(&mut self, why: String) {
        self.skipped += 1;
        if self.why.len() < NAMED {
            self.why.push(why);
        }
    }
}

/// An archive's content beside its place. Dropping it removes it.
pub struct Staged {
    beside: OwnedFd,
    name: Vec<u8>,
    trail: Trail,
    own: Option<(u32, i64)>,
    unpacked: Unpacked,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(problem) = folder::remove(self.beside.as_fd(), &self.name) {
            tracing::warn!(%problem, "what was unpacked beside its place stays");
        }
    }
}

/// Unpacks an archive into a fresh folder `name` in `beside`, which has to be on the file system of its later place.
///
/// # Errors
/// `InvalidData` for an archive that is damaged or breaks a rule that is not about one entry; otherwise those of the
/// reader and the file system. Nothing stays behind.
pub fn stage(beside: &OwnedFd, name: &[u8], reader: impl Read) -> io::Result<Staged> {
    rustix::fs::mkdirat(beside, name, Mode::from_raw_mode(0o700))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(beside, name, flags, Mode::empty())?;
    let mut staged = Staged {
        beside: beside.try_clone()?,
        name: name.to_vec(),
        trail: Trail::new(opened),
        own: None,
        unpacked: Unpacked::default(),
    };
    staged.fill(reader)?;
    Ok(staged)
}

impl Staged {
    /// Moves everything to its place: into the folder `name` of `parent`, which is made where it is missing. Folders that
    /// both have are merged, files and links are replaced, and what would replace a folder, or a folder that would
    /// replace something else, is left out.
    ///
    /// # Errors
    /// Those of the file system; what was moved by then is in its place.
    pub fn settle(mut self, parent: &OwnedFd, name: &[u8]) -> io::Result<Unpacked> {
        let made = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // `.` is where the caller already is; anything else is not reached through a link.
        flags.set(OFlags::NOFOLLOW, name != b".");
        let target = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        settle::merge(self.trail.root(), target.as_fd(), b"", &mut self.unpacked)?;
        if let Some((mode, mtime_ns)) = self.own.filter(|_| made) {
            rustix::fs::fchmod(&target, Mode::from_raw_mode(mode))?;
            rustix::fs::futimens(&target, &folder::times(mtime_ns))?;
        }
        Ok(std::mem::take(&mut self.unpacked))
    }

    fn fill(&mut self, reader: impl Read) -> io::Result<()> {
        let mut policy = BundlePolicy::new(LIMITS);
        let mut folders = BTreeMap::new();
        let (mut meter, budget) = Meter::new(reader);
        let mut buffer = vec![0; BUFFER];
        {
            let mut archive = tar::Archive::new(&mut meter);
            let mut members = archive.entries()?;
            loop {
                budget.allow(HEADERS);
                let Some(member) = members.next() else { break };
                let mut member = member?;
                budget.allow(member.size().saturating_add(HEADERS));
                self.member(&mut member, &mut policy, &mut folders, &mut buffer)?;
            }
        }
        // Folders get their mode and time when everything is in them, the deepest first.
        for (below, (mode, mtime_ns)) in folders.iter().rev() {
            let (parent, name) = self.trail.parent(below, Missing::Fail)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&handle, Mode::from_raw_mode(*mode))?;
            rustix::fs::futimens(&handle, &folder::times(*mtime_ns))?;
        }
        Ok(())
    }

    fn member(
        &mut self,
        member: &mut tar::Entry<'_, impl Read>,
        policy: &mut BundlePolicy,
        folders: &mut BTreeMap<Vec<u8>, (u32, i64)>,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let raw = member.path_bytes().into_owned();
        let shown = path::encode(raw.get(..200).unwrap_or(&raw));
        let (mtime_ns, sparse) = extensions(member)?;
        let kind = match member.header().entry_type() {
            EntryType::Directory => BundleKind::Folder,
            EntryType::Regular | EntryType::Continuous if !sparse => BundleKind::File,
            EntryType::Symlink => BundleKind::Link,
            EntryType::Link => BundleKind::HardLink,
            _ => BundleKind::Other,
        };
        let link = member.link_name_bytes().map(std::borrow::Cow::into_owned);
        let mode = member.header().mode()? & 0o777;
        let size = if kind == BundleKind::File { member.size() } else { 0 };
        let entry = BundleEntry { path: &raw, kind, mode, size, link: link.as_deref() };
        let clean = match policy.check(entry) {
            Ok(clean) => clean,
            Err(BundleRefusal::Kind(_)) => {
                self.unpacked
                    .skip(format!("{shown}: it could not be read, or is neither file, folder nor link"));
                return Ok(());
            }
            Err(refusal @ BundleRefusal::LinkOutside(_)) => {
                self.unpacked.skip(refusal.to_string());
                return Ok(());
            }
            // An honest sender makes none of the others.
            Err(refusal) => return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.to_string())),
        };
        if clean.is_empty() {
            self.own = Some((mode | 0o700, mtime_ns));
            return Ok(());
        }
        let (parent, name) = self.trail.parent(&clean, Missing::Make)?;
        match kind {
            BundleKind::Folder => {
                match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                    // Made on the way to something in it.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                // The owner can always work with it: otherwise nobody could move it to its place, either.
                folders.insert(clean, (mode | 0o700, mtime_ns));
            }
            BundleKind::Link => {
                rustix::fs::symlinkat(&link.unwrap_or_default()[..], parent, name)?;
                let times = folder::times(mtime_ns);
                rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
                let mut file = File::from(opened);
                let written = copy(member, &mut file, buffer)?;
                if written != size {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{shown} is cut off")));
                }
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
                rustix::fs::futimens(&file, &folder::times(mtime_ns))?;
                self.unpacked.bytes += written;
            }
        }
        self.unpacked.entries += 1;
        Ok(())
    }
}

fn copy(from: &mut impl Read, to: &mut File, buffer: &mut [u8]) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let read = from.read(buffer)?;
        if read == 0 {
            return Ok(total);
        }
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        total += read as u64;
    }
}

/// The modification time in nanoseconds, and whether the member is a sparse file.
fn extensions(member: &mut tar::Entry<'_, impl Read>) -> io::Result<(i64, bool)> {
    let seconds = member.header().mtime().unwrap_or(0);
    let mut mtime_ns =
        i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000_000)).unwrap_or(0);
    let mut sparse = false;
    for record in member.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        sparse |= record.key_bytes().starts_with(b"GNU.sparse");
        if record.key_bytes() == b"mtime" {
            mtime_ns = record.value().ok().and_then(nanoseconds).unwrap_or(mtime_ns);
        }
    }
    Ok((mtime_ns, sparse))
}

/// A time as pax writes it: seconds with a fraction, perhaps negative.
fn nanoseconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(if negative { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(nanoseconds("1.000000001"), Some(1_000_000_001));
        assert_eq!(nanoseconds("-1.5"), Some(-1_500_000_000));
        assert_eq!(nanoseconds("7"), Some(7_000_000_000));
        for bad in ["", "x", "1.x", "99999999999999999999"] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }
}
