//! Reading captured trees (the archive format of [`burstflare_ports::wire::tree`]) into folders of this host.
//!
//! Archives come from machines, so nothing in them is believed: members are placed by directory handles that follow
//! no link, counts and sizes are bounded, and a tree is accepted only when its manifest says the same of every entry
//! as the bytes did.

use std::ffi::CString;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::ByteStream;
use burstflare_ports::wire::path;
use burstflare_ports::wire::tree::{Digest, Entry, FORMAT, Header, Kind, MANIFEST_MEMBER, Summary};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use tokio::sync::mpsc;

const READ: &str = "tree.extract";

/// Upper bounds of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Folders within each other.
    pub depth: usize,
    /// Bytes of the manifest.
    pub manifest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4_000_000, bytes: 1 << 38, depth: 128, manifest: 2 << 30 }
    }
}

fn corrupt(context: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::Corrupt, READ, context)
}

fn too_large(what: &str) -> PortError {
    PortError::new(ErrorKind::TooLarge, READ, format!("the tree has too many {what}"))
}

/// An error while reading the archive: the flow's own, where that is the cause.
fn unreadable(error: io::Error) -> PortError {
    match error.downcast::<PortError>() {
        Ok(own) => own,
        Err(error) => corrupt("the archive cannot be read").with_source(error),
    }
}

fn unwritable(entry: &str) -> impl FnOnce(rustix::io::Errno) -> PortError {
    move |errno| {
        let kind = match errno {
            rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT => ErrorKind::Full,
            // Two entries of one name, or one below a file.
            rustix::io::Errno::EXIST | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP => {
                ErrorKind::Corrupt
            }
            _ => ErrorKind::Internal,
        };
        PortError::new(kind, READ, format!("cannot make {entry}")).with_source(io::Error::from(errno))
    }
}

/// Runs blocking work on the bytes of a flow, which is read only as fast as the work goes.
pub(crate) async fn unpack<T: Send + 'static>(
    mut chunks: ByteStream,
    work: impl FnOnce(Box<dyn Read + Send>) -> PortResult<T> + Send + 'static,
) -> PortResult<T> {
    let (sender, receiver) = mpsc::channel(4);
    let worker = tokio::task::spawn_blocking(move || {
        work(Box::new(Flow { receiver, current: Bytes::new(), ended: false }))
    });
    while let Some(chunk) = chunks.next().await {
        let failed = chunk.is_err();
        if sender.send(Some(chunk)).await.is_err() || failed {
            break;
        }
    }
    // Told apart from a reader that was dropped.
    let _ = sender.send(None).await;
    drop(sender);
    worker.await.map_err(|error| {
        PortError::new(ErrorKind::Internal, READ, "unpacking did not end").with_source(error)
    })?
}

struct Flow {
    receiver: mpsc::Receiver<Option<PortResult<Bytes>>>,
    current: Bytes,
    ended: bool,
}

impl Read for Flow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Some(Ok(chunk))) => self.current = chunk,
                Some(Some(Err(error))) => return Err(io::Error::other(error)),
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let length = self.current.len().min(buffer.len());
        if let (Some(from), Some(to)) = (self.current.get(..length), buffer.get_mut(..length)) {
            to.copy_from_slice(from);
        }
        self.current.advance(length);
        Ok(length)
    }
}

/// Unpacks an archive into an empty folder and verifies all of it. The files belong to `owner` where one is given
/// (for root only). On an error the folder holds a part.
pub(crate) fn extract(
    archive: impl Read,
    into: &Path,
    owner: Option<u32>,
    limits: Limits,
) -> PortResult<Summary> {
    let decoder = zstd::stream::read::Decoder::new(archive).map_err(unreadable)?;
    let mut archive = tar::Archive::new(decoder);
    let top = rustix::fs::open(into, folder_flags(), Mode::empty()).map_err(unwritable("the folder"))?;
    let mut target = Target { top, owner, open: Vec::new() };
    let mut digest = Digest::default();
    let mut entries: Vec<Entry> = Vec::new();
    let mut manifest = None;
    let mut bytes = 0_u64;
    for member in archive.entries().map_err(unreadable)? {
        let mut member = member.map_err(unreadable)?;
        if manifest.is_some() {
            return Err(corrupt("members after the manifest"));
        }
        let name = member.path_bytes().into_owned();
        if name == MANIFEST_MEMBER.as_bytes() {
            if member.size() > limits.manifest {
                return Err(too_large("bytes of manifest"));
            }
            let mut text = Vec::new();
            member.read_to_end(&mut text).map_err(unreadable)?;
            manifest = Some(text);
            continue;
        }
        if entries.len() as u64 >= limits.entries {
            return Err(too_large("entries"));
        }
        let parts = components(&name, limits.depth)?;
        let mut entry = describe(&member, &name)?;
        if let Some(previous) = entries.last() {
            in_order(previous, &name)?;
        }
        if entry.kind == Kind::File {
            bytes = bytes.saturating_add(member.size());
            if bytes > limits.bytes {
                return Err(too_large("bytes"));
            }
        }
        target.place(&parts, &mut entry, &mut member)?;
        digest.add(&entry);
        entries.push(entry);
    }
    let manifest = manifest.ok_or_else(|| corrupt("the archive ends before its manifest"))?;
    agree(&manifest, &mut entries)?;
    target.finish(&entries)?;
    Ok(digest.summary())
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Splits a member's name; nothing may lead out of the folder or be written twice.
fn components(name: &[u8], depth: usize) -> PortResult<Vec<CString>> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let refused = || corrupt(format!("a member has the name {}", path::encode(name)));
    let parts: Vec<CString> = name
        .split(|byte| *byte == b'/')
        .map(|part| match part {
            b"" | b"." | b".." => Err(refused()),
            part if part.len() > 255 => Err(refused()),
            part => CString::new(part).map_err(|_| refused()),
        })
        .collect::<PortResult<_>>()?;
    if parts.len() > depth {
        return Err(too_large("folders within each other"));
    }
    let below_root =
        parts.first().is_some_and(|first| first.as_bytes() == b"workspace" || first.as_bytes() == b"home");
    if below_root { Ok(parts) } else { Err(refused()) }
}

/// Sorted by path as bytes, which also makes every path unique.
fn in_order(previous: &Entry, name: &[u8]) -> PortResult<()> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    match path::decode(&previous.path) {
        Some(before) if before.as_slice() < name => Ok(()),
        _ => Err(corrupt(format!("{} is out of order", path::encode(name)))),
    }
}

fn describe<R: Read>(member: &tar::Entry<'_, R>, name: &[u8]) -> PortResult<Entry> {
    let name = path::encode(name.strip_suffix(b"/").unwrap_or(name));
    let kind = match member.header().entry_type() {
        tar::EntryType::Directory => Kind::Folder,
        tar::EntryType::Regular => Kind::File,
        tar::EntryType::Symlink => Kind::Link,
        tar::EntryType::Fifo => Kind::Pipe,
        other => return Err(corrupt(format!("{name} is of a type that trees do not have ({other:?})"))),
    };
    let mode = member.header().mode().map_err(unreadable)?;
    if mode & !0o1777 != 0 {
        return Err(corrupt(format!("{name} has mode {mode:o}")));
    }
    let link = match kind {
        Kind::Link => {
            let target =
                member.link_name_bytes().ok_or_else(|| corrupt(format!("{name} links to nothing")))?;
            Some(path::encode(&target))
        }
        Kind::Folder | Kind::File | Kind::Pipe => None,
    };
    Ok(Entry { path: name, kind, mode, mtime_ns: 0, size: 0, blake3: None, link })
}

/// The manifest has to say of every entry what was seen, and adds the times.
fn agree(manifest: &[u8], entries: &mut [Entry]) -> PortResult<()> {
    let mut lines = manifest.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let malformed = |error: serde_json::Error| corrupt("the manifest is malformed").with_source(error);
    let header: Header = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(malformed)?;
    if header.format > FORMAT {
        let context = format!("the tree has format {}, this build reads up to {FORMAT}", header.format);
        return Err(PortError::new(ErrorKind::Unsupported, READ, context));
    }
    if header.entries != entries.len() as u64 {
        return Err(corrupt("the manifest tells another number of entries"));
    }
    for seen in entries.iter_mut() {
        let line = lines.next().ok_or_else(|| corrupt("the manifest ends early"))?;
        let told: Entry = serde_json::from_slice(line).map_err(malformed)?;
        seen.mtime_ns = told.mtime_ns;
        if *seen != told {
            return Err(corrupt(format!("{} is not what the manifest tells", seen.path)));
        }
    }
    if lines.next().is_some() { Err(corrupt("the manifest goes on after its end")) } else { Ok(()) }
}

/// The folder that is filled, and the handles of the folders from it to the entry made last.
struct Target {
    top: OwnedFd,
    owner: Option<u32>,
    open: Vec<(CString, OwnedFd)>,
}

impl Target {
    /// The handle of the folder of these names, opened from the last common one.
    fn folder(&mut self, names: &[CString]) -> Result<&OwnedFd, rustix::io::Errno> {
        let common = self.open.iter().zip(names).take_while(|((open, _), name)| open == *name).count();
        self.open.truncate(common);
        for name in names.get(common..).unwrap_or_default() {
            let parent = self.open.last().map_or(&self.top, |(_, folder)| folder);
            let folder = match rustix::fs::openat(parent, name, folder_flags(), Mode::empty()) {
                // `home` is no entry of a tree whose root is `home/flare`, but it has to be there.
                Err(rustix::io::Errno::NOENT) => {
                    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
                    let folder = rustix::fs::openat(parent, name, folder_flags(), Mode::empty())?;
                    own(&folder, self.owner)?;
                    folder
                }
                opened => opened?,
            };
            self.open.push((name.clone(), folder));
        }
        Ok(self.open.last().map_or(&self.top, |(_, folder)| folder))
    }

    /// Makes an entry; a file's size and digest are filled in.
    fn place(&mut self, parts: &[CString], entry: &mut Entry, content: &mut impl Read) -> PortResult<()> {
        let Some((name, above)) = parts.split_last() else { return Err(corrupt("a member without a name")) };
        let owner = self.owner;
        let folder = self.folder(above).map_err(unwritable(&entry.path))?;
        let made = match entry.kind {
            // Open to its owner until everything is in it; modes are set at the end.
            Kind::Folder => rustix::fs::mkdirat(folder, name, Mode::RWXU),
            Kind::Pipe => rustix::fs::mknodat(folder, name, rustix::fs::FileType::Fifo, Mode::RUSR, 0),
            Kind::Link => {
                let target = entry.link.as_deref().and_then(path::decode).unwrap_or_default();
                rustix::fs::symlinkat(target.as_slice(), folder, name)
            }
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR) {
                    Ok(file) => return fill(file, entry, content, owner),
                    Err(error) => Err(error),
                }
            }
        };
        made.and_then(|()| match owner {
            Some(user) => {
                rustix::fs::chownat(folder, name, Some(uid(user)), Some(gid(user)), AtFlags::SYMLINK_NOFOLLOW)
            }
            None => Ok(()),
        })
        .map_err(unwritable(&entry.path))
    }

    /// Sets modes and times, from the last entry to the first, so that a folder comes after everything in it.
    fn finish(&mut self, entries: &[Entry]) -> PortResult<()> {
        for entry in entries.iter().rev() {
            let bytes = path::decode(&entry.path).unwrap_or_default();
            let parts = components(&bytes, usize::MAX)?;
            let Some((name, above)) = parts.split_last() else { continue };
            let folder = self.folder(above).map_err(unwritable(&entry.path))?;
            let mode = Mode::from_raw_mode(entry.mode);
            let moded = match entry.kind {
                Kind::Link | Kind::File => Ok(()),
                Kind::Folder => rustix::fs::openat(folder, name, folder_flags(), Mode::empty())
                    .and_then(|made| rustix::fs::fchmod(made, mode)),
                // No link can be in its place: everything here was made by this process in a closed folder.
                Kind::Pipe => rustix::fs::chmodat(folder, name, mode, AtFlags::empty()),
            };
            moded
                .and_then(|()| {
                    let at = timespec(entry.mtime_ns);
                    let times = Timestamps { last_access: at, last_modification: at };
                    rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                })
                .map_err(unwritable(&entry.path))?;
        }
        Ok(())
    }
}

fn fill(file: OwnedFd, entry: &mut Entry, content: &mut impl Read, owner: Option<u32>) -> PortResult<()> {
    let mut hasher = blake3::Hasher::new();
    let mut file = std::fs::File::from(file);
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        let length = content.read(&mut buffer).map_err(unreadable)?;
        let Some(chunk) = buffer.get(..length).filter(|chunk| !chunk.is_empty()) else { break };
        hasher.update(chunk);
        entry.size += length as u64;
        file.write_all(chunk).map_err(|error| {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            unwritable(&entry.path)(errno)
        })?;
    }
    entry.blake3 = Some(hasher.finalize().to_hex().to_string());
    // The owner first: changing it takes set-id bits away, and the mode is meant for the new one.
    own(&file, owner)
        .and_then(|()| rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)))
        .map_err(unwritable(&entry.path))
}

fn own(file: impl AsFd, owner: Option<u32>) -> Result<(), rustix::io::Errno> {
    owner.map_or(Ok(()), |user| rustix::fs::fchown(file, Some(uid(user)), Some(gid(user))))
}

fn uid(user: u32) -> Uid {
    Uid::from_raw(user)
}

fn gid(user: u32) -> Gid {
    Gid::from_raw(user)
}

fn timespec(nanoseconds: i64) -> Timespec {
    Timespec { tv_sec: nanoseconds.div_euclid(1_000_000_000), tv_nsec: nanoseconds.rem_euclid(1_000_000_000) }
}
