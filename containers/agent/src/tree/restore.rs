//! From an archive back to the roots: unpacked beside what is there, compared with its manifest, and only then put
//! in its place. A damaged archive changes nothing.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use burstflare_ports::wire::path;
use burstflare_ports::wire::tree::{Digest, Entry, FORMAT, Header, Kind, MANIFEST_MEMBER, Summary};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::member::parse_decimal;
use super::meter::{HEADERS, Meter};
use super::{drain, member_name};
use crate::folder::{self, Missing, STAGING, Staging, Trail};
use crate::reply::Refused;

const BUFFER: usize = 128 << 10;
/// The largest zstd window that is accepted, as a power of two.
const WINDOW: u32 = 27;
/// Bytes of a manifest's line.
const LINE: u64 = 64 << 10;

/// Makes the roots exactly the tree of the archive.
pub(crate) fn restore(roots: &[String], archive: impl Read) -> Result<Summary, Refused> {
    let mut places = Vec::new();
    for root in roots {
        places.push(Place::new(root)?);
    }
    let (entries, summary) = unpack(&mut places, archive)?;
    for place in &places {
        place.swap()?;
    }
    finish_folders(&mut places, &entries)?;
    Ok(summary)
}

/// One root and what is put together for it.
struct Place {
    name: Vec<u8>,
    staging: Staging,
    staged: Trail,
    /// The root's own entry, from the archive.
    own: Option<Entry>,
}

impl Place {
    fn new(root: &str) -> io::Result<Self> {
        let (staging, folder) = Staging::begin(root)?;
        Ok(Self { name: member_name(root).to_vec(), staging, staged: Trail::new(folder), own: None })
    }

    /// What of a member's path lies below this root; empty for the root itself.
    fn below<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        match path.strip_prefix(self.name.as_slice())? {
            b"" => Some(b""),
            rest => rest.strip_prefix(b"/"),
        }
    }

    /// The old content goes, the new one comes.
    fn swap(&self) -> io::Result<()> {
        for name in folder::names(self.staging.root())? {
            if name != STAGING {
                folder::remove(self.staging.root(), &name)?;
            }
        }
        folder::merge(self.staged.root(), self.staging.root())
    }

    /// The root's own mode and time are those of its entry.
    fn settle(&mut self) {
        if let Some(own) = &self.own {
            self.staging.settle(own.mode, own.mtime_ns);
        }
    }
}

fn corrupt(what: impl std::fmt::Display) -> Refused {
    Refused::corrupt(format!("The archive is damaged: {what}."))
}

fn unpack(places: &mut [Place], archive: impl Read) -> Result<(Vec<Entry>, Summary), Refused> {
    let mut decoder = zstd::stream::read::Decoder::new(archive)?;
    decoder.window_log_max(WINDOW)?;
    let (mut meter, budget) = Meter::new(decoder);
    let mut tar = tar::Archive::new(&mut meter);
    let mut entries: Vec<Entry> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut previous = Vec::new();
    let mut whole = false;
    let mut members = tar.entries().map_err(corrupt)?;
    loop {
        budget.allow(HEADERS);
        let Some(member) = members.next() else { break };
        let mut member = member.map_err(corrupt)?;
        let name = member.path_bytes().into_owned();
        budget.allow(member.size().saturating_add(HEADERS));
        if whole {
            return Err(corrupt("a member after the manifest"));
        }
        if name == MANIFEST_MEMBER.as_bytes() {
            compare(&mut member, &entries)?;
            whole = true;
            continue;
        }
        if name <= previous {
            return Err(corrupt(format_args!("`{}` is out of order", path::encode(&name))));
        }
        let entry = describe(&mut member, &name)?;
        entries.push(make(places, entry, &name, &mut member, &mut buffer)?);
        previous = name;
    }
    if !whole {
        return Err(corrupt("it has no manifest"));
    }
    // What follows may only be padding; reading to the end also checks the checksum.
    budget.allow(HEADERS);
    let mut rest = meter;
    drain(&mut rest).map_err(corrupt)?;
    let mut digest = Digest::default();
    for entry in &entries {
        digest.add(entry);
    }
    Ok((entries, digest.summary()))
}

/// What the headers say of a member.
fn describe(member: &mut tar::Entry<'_, impl Read>, name: &[u8]) -> Result<Entry, Refused> {
    let shown = path::encode(name);
    let kind = match member.header().entry_type() {
        EntryType::Directory => Kind::Folder,
        EntryType::Regular => Kind::File,
        EntryType::Symlink => Kind::Link,
        EntryType::Fifo => Kind::Pipe,
        _ => return Err(corrupt(format_args!("`{shown}` is of a kind that a tree cannot hold"))),
    };
    let mode = member.header().mode().map_err(corrupt)?;
    let mut mtime_ns = member
        .header()
        .mtime()
        .ok()
        .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000_000_000));
    if let Some(records) = member.pax_extensions().map_err(corrupt)? {
        for record in records {
            let record = record.map_err(corrupt)?;
            if record.key() == Ok("mtime") {
                mtime_ns = record.value().ok().and_then(parse_decimal);
            }
        }
    }
    let link = (kind == Kind::Link).then(|| member.link_name_bytes().unwrap_or_default().into_owned());
    if mode & !0o1777 != 0
        || link.as_ref().is_some_and(Vec::is_empty)
        || (kind != Kind::File && member.size() != 0)
    {
        return Err(corrupt(format_args!("the header of `{shown}` is not one of a tree")));
    }
    Ok(Entry {
        path: shown,
        kind,
        mode,
        mtime_ns: mtime_ns.ok_or_else(|| corrupt("a time is malformed"))?,
        size: member.size(),
        blake3: None,
        link: link.as_deref().map(path::encode),
    })
}

/// Makes one entry in the staging folder of its root, folders still open to us.
fn make(
    places: &mut [Place],
    mut entry: Entry,
    name: &[u8],
    content: &mut impl Read,
    buffer: &mut [u8],
) -> Result<Entry, Refused> {
    let outside =
        || Refused::unacceptable(format!("`{}` lies in none of this machine's roots.", path::encode(name)));
    let (place, below) = places
        .iter_mut()
        .find_map(|place| place.below(name).map(|below| (place, below)))
        .ok_or_else(outside)?;
    if below.is_empty() {
        if entry.kind != Kind::Folder {
            return Err(corrupt("a root is not a folder"));
        }
        place.own = Some(entry.clone());
        return Ok(entry);
    }
    if place.own.is_none() {
        return Err(corrupt("a root's own entry is missing"));
    }
    let (parent, name) =
        place.staged.parent(below, Missing::Fail).map_err(|problem| match problem.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::EIO) => problem.into(),
            _ => corrupt(format_args!("`{}` has no folder to lie in", entry.path)),
        })?;
    let mode = Mode::from_raw_mode(entry.mode);
    // What no file system would take was in no tree: a name with a NUL byte, one that is too long, the same twice.
    let failed = |problem: Errno| match problem {
        Errno::INVAL | Errno::NAMETOOLONG | Errno::EXIST | Errno::NOENT | Errno::NOTDIR => {
            corrupt(format_args!("`{}` cannot be a name", path::encode(name)))
        }
        other => other.into(),
    };
    match entry.kind {
        Kind::Folder => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(failed)?,
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
            let (size, hash) = copy(content, &file, buffer)?;
            if size != entry.size {
                return Err(corrupt(format_args!("`{}` is cut off", entry.path)));
            }
            rustix::fs::fchmod(&file, mode)?;
            rustix::fs::futimens(&file, &folder::times(entry.mtime_ns))?;
            entry.blake3 = Some(hash.to_hex().to_string());
        }
        Kind::Link => {
            let target = entry.link.as_deref().and_then(path::decode).unwrap_or_default();
            rustix::fs::symlinkat(&target, parent, name).map_err(failed)?;
            rustix::fs::utimensat(parent, name, &folder::times(entry.mtime_ns), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Kind::Pipe => {
            rustix::fs::mkfifoat(parent, name, mode).map_err(failed)?;
            // The mask may have taken bits away; there is no link here, we have just made it.
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
            rustix::fs::utimensat(parent, name, &folder::times(entry.mtime_ns), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(entry)
}

/// Copies to the end, telling apart who failed: the archive or the disk.
pub(crate) fn copy(
    from: &mut impl Read,
    to: &OwnedFd,
    buffer: &mut [u8],
) -> Result<(u64, blake3::Hash), Refused> {
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        let length = match from.read(buffer) {
            Ok(0) => return Ok((size, hasher.finalize())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(corrupt(error)),
        };
        let mut piece = buffer.get(..length).unwrap_or_default();
        hasher.update(piece);
        size += length as u64;
        while !piece.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(to, piece))?;
            piece = piece.get(written..).unwrap_or_default();
        }
    }
}

/// The manifest against what was unpacked.
fn compare(manifest: &mut impl Read, entries: &[Entry]) -> Result<(), Refused> {
    use io::BufRead as _;
    let mut lines = io::BufReader::new(manifest);
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| -> Result<bool, Refused> {
        line.clear();
        lines.by_ref().take(LINE).read_until(b'\n', line).map_err(corrupt)?;
        Ok(line.last() == Some(&b'\n'))
    };
    if !next(&mut line)? {
        return Err(corrupt("its manifest is empty"));
    }
    let header: Header = serde_json::from_slice(&line).map_err(corrupt)?;
    if header.format > FORMAT {
        return Err(Refused::unacceptable(format!(
            "The archive has format {}; this agent reads up to {FORMAT}.",
            header.format
        )));
    }
    if header.entries != entries.len() as u64 {
        return Err(corrupt(format_args!("it lists {} entries and holds {}", header.entries, entries.len())));
    }
    for entry in entries {
        if !next(&mut line)? {
            return Err(corrupt("its manifest is cut off"));
        }
        let listed: Entry = serde_json::from_slice(&line).map_err(corrupt)?;
        if listed != *entry {
            return Err(corrupt(format_args!("`{}` is not what the manifest says", entry.path)));
        }
    }
    if next(&mut line)? || !line.is_empty() {
        return Err(corrupt("its manifest goes on after its end"));
    }
    Ok(())
}

/// Modes and times of folders, the deepest first: until now we had to be able to write into them.
fn finish_folders(places: &mut [Place], entries: &[Entry]) -> Result<(), Refused> {
    for place in places.iter_mut() {
        // From here on paths mean the root itself.
        place.staged = Trail::new(place.staging.root().try_clone_to_owned()?);
    }
    for entry in entries.iter().rev().filter(|entry| entry.kind == Kind::Folder) {
        let bytes = path::decode(&entry.path).unwrap_or_default();
        let Some((place, below)) =
            places.iter_mut().find_map(|place| place.below(&bytes).map(|below| (place, below)))
        else {
            continue;
        };
        if below.is_empty() {
            place.settle();
            continue;
        }
        let (parent, name) = place.staged.parent(below, Missing::Fail)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&handle, Mode::from_raw_mode(entry.mode))?;
        rustix::fs::futimens(&handle, &folder::times(entry.mtime_ns))?;
    }
    Ok(())
}
