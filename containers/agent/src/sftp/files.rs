//! What the requests do to files.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::attributes::{Attributes, line};
use super::wire::{Name, Reader, Reply, kind};
use super::{PACKET, PIECE};

/// Open files and folders of one client.
const HANDLES: usize = 256;
/// Names in one answer.
const NAMES: usize = 100;
const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
const EXCLUSIVE: u32 = 32;

enum Open {
    File { file: File, append: bool },
    Folder { folder: OwnedFd, names: std::vec::IntoIter<Vec<u8>> },
}

/// One client's view: where relative paths begin, and what it has open.
pub(super) struct Files {
    start: PathBuf,
    base: OwnedFd,
    open: HashMap<u32, Open>,
    next: u32,
}

/// `None` for a malformed request.
type Answer = Option<io::Result<Reply>>;

/// A folder by handle and one name in it.
struct Place<'p> {
    folder: OwnedFd,
    name: &'p [u8],
}

impl Files {
    /// Relative paths begin at `start`.
    pub(super) fn new(start: &str) -> io::Result<Self> {
        let base =
            rustix::fs::open(start, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { start: start.into(), base, open: HashMap::new(), next: 0 })
    }

    /// Does what a request says.
    pub(super) fn handle(&mut self, what: u8, reader: &mut Reader<'_>) -> Answer {
        Some(match what {
            kind::OPEN => {
                let (path, flags) = (reader.bytes()?, reader.number()?);
                let attributes = Attributes::decode(reader)?;
                self.open_file(path, flags, &attributes)
            }
            kind::CLOSE => {
                let handle = handle(reader)?;
                self.open.remove(&handle).map(|_| Reply::done()).ok_or_else(|| Errno::BADF.into())
            }
            kind::READ => {
                let (handle, offset, length) = (handle(reader)?, reader.long()?, reader.number()?);
                self.file(handle).and_then(|(file, _)| read(file, offset, length))
            }
            kind::WRITE => {
                let (handle, offset, data) = (handle(reader)?, reader.long()?, reader.bytes()?);
                self.file(handle).and_then(|(mut file, append)| {
                    // Linux ignores the offset of a file opened for appending, but only in `write`.
                    if append {
                        io::Write::write_all(&mut file, data)
                    } else {
                        file.write_all_at(data, offset)
                    }?;
                    Ok(Reply::done())
                })
            }
            kind::FSTAT => {
                let handle = handle(reader)?;
                self.fd(handle).and_then(|fd| Ok(Reply::Attributes((&rustix::fs::fstat(fd)?).into())))
            }
            kind::FSETSTAT => {
                let (handle, attributes) = (handle(reader)?, Attributes::decode(reader)?);
                self.fd(handle).and_then(|fd| set_open(fd, &attributes))
            }
            kind::OPENDIR => {
                let path = reader.bytes()?;
                self.open_folder(path)
            }
            kind::READDIR => {
                let handle = handle(reader)?;
                self.list(handle)
            }
            kind::EXTENDED => match reader.bytes()? {
                b"fsync@openssh.com" => {
                    let handle = handle(reader)?;
                    self.file(handle).and_then(|(file, _)| file.sync_all()).map(|()| Reply::done())
                }
                b"fstatvfs@openssh.com" => {
                    let handle = handle(reader)?;
                    self.fd(handle).and_then(space)
                }
                name => return self.extended(name, reader),
            },
            _ => return self.by_path(what, reader),
        })
    }

    fn by_path(&self, what: u8, reader: &mut Reader<'_>) -> Answer {
        let path = match what {
            kind::LSTAT..=kind::STAT | kind::RENAME | kind::READLINK | kind::SYMLINK => reader.bytes()?,
            _ => return Some(Ok(Reply::unsupported())),
        };
        Some(match what {
            kind::LSTAT => self.stat(path, AtFlags::SYMLINK_NOFOLLOW),
            kind::STAT => self.stat(path, AtFlags::empty()),
            kind::SETSTAT => {
                let attributes = Attributes::decode(reader)?;
                self.set(path, &attributes, AtFlags::empty())
            }
            kind::REMOVE => self.at(path, |at| rustix::fs::unlinkat(&at.folder, at.name, AtFlags::empty())),
            kind::MKDIR => {
                let mode = Attributes::decode(reader)?.mode.unwrap_or(0o777);
                self.at(path, |at| {
                    rustix::fs::mkdirat(&at.folder, at.name, Mode::from_raw_mode(mode & 0o1777))
                })
            }
            kind::RMDIR => self.at(path, |at| rustix::fs::unlinkat(&at.folder, at.name, AtFlags::REMOVEDIR)),
            kind::REALPATH => Ok(one_name(self.real(path))),
            kind::RENAME => {
                let to = reader.bytes()?;
                self.rename(path, to, RenameFlags::NOREPLACE)
            }
            kind::READLINK => self.at_with(path, |at| {
                Ok(one_name(rustix::fs::readlinkat(&at.folder, at.name, Vec::new())?.into_bytes()))
            }),
            kind::SYMLINK => {
                // OpenSSH sends the target first, against the draft; every client has followed it.
                let link = reader.bytes()?;
                self.at(link, |at| rustix::fs::symlinkat(path, &at.folder, at.name))
            }
            _ => Ok(Reply::unsupported()),
        })
    }

    fn extended(&self, name: &[u8], reader: &mut Reader<'_>) -> Answer {
        Some(match name {
            b"posix-rename@openssh.com" => {
                let (from, to) = (reader.bytes()?, reader.bytes()?);
                self.rename(from, to, RenameFlags::empty())
            }
            b"hardlink@openssh.com" => {
                let (old, new) = (reader.bytes()?, reader.bytes()?);
                self.place(old).and_then(|old| {
                    self.at(new, |new| {
                        rustix::fs::linkat(&old.folder, old.name, &new.folder, new.name, AtFlags::empty())
                    })
                })
            }
            b"lsetstat@openssh.com" => {
                let (path, attributes) = (reader.bytes()?, Attributes::decode(reader)?);
                self.set(path, &attributes, AtFlags::SYMLINK_NOFOLLOW)
            }
            b"statvfs@openssh.com" => {
                let path = reader.bytes()?;
                self.at_with(path, |at| {
                    let flags = OFlags::PATH | OFlags::CLOEXEC;
                    space(rustix::fs::openat(&at.folder, at.name, flags, Mode::empty())?.as_fd())
                })
            }
            b"limits@openssh.com" => {
                Ok(Reply::Numbers(vec![PACKET as u64, PIECE as u64, PIECE as u64, HANDLES as u64]))
            }
            b"expand-path@openssh.com" => {
                let path = reader.bytes()?;
                let path = match path.strip_prefix(b"~").map(|rest| rest.strip_prefix(b"/").unwrap_or(rest)) {
                    Some(rest) => self
                        .home()
                        .join(Path::new(std::ffi::OsStr::from_bytes(rest)))
                        .into_os_string()
                        .into_vec(),
                    None => path.to_vec(),
                };
                Ok(one_name(self.real(&path)))
            }
            _ => Ok(Reply::unsupported()),
        })
    }

    /// `~` means where relative paths begin: one place for all that is not absolute.
    fn home(&self) -> &Path {
        &self.start
    }

    fn place<'p>(&self, path: &'p [u8]) -> io::Result<Place<'p>> {
        let trimmed = path.strip_suffix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(path);
        let (folder, name) = match trimmed.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (trimmed.get(..=at).unwrap_or_default(), trimmed.get(at + 1..).unwrap_or_default()),
            None => (&b"."[..], trimmed),
        };
        let name = if name.is_empty() { &b"."[..] } else { name };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Place { folder: rustix::fs::openat(&self.base, folder, flags, Mode::empty())?, name })
    }

    fn at_with(&self, path: &[u8], act: impl FnOnce(Place<'_>) -> io::Result<Reply>) -> io::Result<Reply> {
        self.place(path).and_then(act)
    }

    fn at(&self, path: &[u8], act: impl FnOnce(Place<'_>) -> rustix::io::Result<()>) -> io::Result<Reply> {
        self.at_with(path, |at| Ok(act(at).map(|()| Reply::done())?))
    }

    fn stat(&self, path: &[u8], flags: AtFlags) -> io::Result<Reply> {
        self.at_with(path, |at| {
            Ok(Reply::Attributes((&rustix::fs::statat(&at.folder, at.name, flags)?).into()))
        })
    }

    fn set(&self, path: &[u8], attributes: &Attributes, flags: AtFlags) -> io::Result<Reply> {
        self.at(path, |at| {
            if let Some(size) = attributes.size {
                let open = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::ftruncate(rustix::fs::openat(&at.folder, at.name, open, Mode::empty())?, size)?;
            }
            if let Some(mode) = attributes.mode {
                rustix::fs::chmodat(&at.folder, at.name, Mode::from_raw_mode(mode & 0o7777), flags)?;
            }
            if let Some(times) = attributes.times {
                rustix::fs::utimensat(&at.folder, at.name, &seconds(times), flags)?;
            }
            if let Some((user, group)) = attributes.owner {
                rustix::fs::chownat(
                    &at.folder,
                    at.name,
                    Some(Uid::from_raw(user)),
                    Some(Gid::from_raw(group)),
                    flags,
                )?;
            }
            Ok(())
        })
    }

    fn rename(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> io::Result<Reply> {
        let from = self.place(from)?;
        self.at(to, |to| {
            match rustix::fs::renameat_with(&from.folder, from.name, &to.folder, to.name, flags) {
                // A file system that cannot rename without replacing.
                Err(Errno::INVAL) if !flags.is_empty() => {
                    if rustix::fs::statat(&to.folder, to.name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                        return Err(Errno::EXIST);
                    }
                    rustix::fs::renameat(&from.folder, from.name, &to.folder, to.name)
                }
                result => result,
            }
        })
    }

    /// Absolute and without links as far as it exists.
    fn real(&self, path: &[u8]) -> Vec<u8> {
        let path = self.start.join(Path::new(std::ffi::OsStr::from_bytes(path)));
        let parent = || Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
        std::fs::canonicalize(&path).ok().or_else(parent).unwrap_or(path).into_os_string().into_vec()
    }

    fn open_file(&mut self, path: &[u8], flags: u32, attributes: &Attributes) -> io::Result<Reply> {
        let mut how = match (flags & READ != 0, flags & WRITE != 0) {
            (_, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
            (true, true) => OFlags::RDWR,
        };
        for (flag, meaning) in [
            (APPEND, OFlags::APPEND),
            (CREATE, OFlags::CREATE),
            (TRUNCATE, OFlags::TRUNC),
            (EXCLUSIVE, OFlags::EXCL),
        ] {
            how.set(meaning, flags & flag != 0);
        }
        // A pipe without its other end must not hang the transfer, and no terminal may become ours.
        how |= OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(attributes.mode.unwrap_or(0o666) & 0o777);
        let at = self.place(path)?;
        let file = File::from(rustix::fs::openat(&at.folder, at.name, how, mode)?);
        self.keep(Open::File { file, append: flags & APPEND != 0 })
    }

    fn open_folder(&mut self, path: &[u8]) -> io::Result<Reply> {
        let at = self.place(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&at.folder, at.name, flags, Mode::empty())?;
        let mut names = vec![b".".to_vec(), b"..".to_vec()];
        names.extend(crate::folder::names(&folder)?);
        self.keep(Open::Folder { folder, names: names.into_iter() })
    }

    fn keep(&mut self, open: Open) -> io::Result<Reply> {
        if self.open.len() >= HANDLES {
            return Err(Errno::MFILE.into());
        }
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(handle, open);
        Ok(Reply::Handle(handle))
    }

    fn file(&self, handle: u32) -> io::Result<(&File, bool)> {
        match self.open.get(&handle) {
            Some(Open::File { file, append }) => Ok((file, *append)),
            _ => Err(Errno::BADF.into()),
        }
    }

    fn fd(&self, handle: u32) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        match self.open.get(&handle) {
            Some(Open::File { file, .. }) => Ok(file.as_fd()),
            Some(Open::Folder { folder, .. }) => Ok(folder.as_fd()),
            None => Err(Errno::BADF.into()),
        }
    }

    fn list(&mut self, handle: u32) -> io::Result<Reply> {
        let Some(Open::Folder { folder, names }) = self.open.get_mut(&handle) else {
            return Err(Errno::BADF.into());
        };
        let now =
            std::time::UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        let mut batch = Vec::new();
        for name in names.by_ref() {
            // Gone since the listing: left out.
            if let Ok(stat) = crate::folder::stat(folder.as_fd(), &name) {
                batch.push(entry(name, &stat, now));
            }
            if batch.len() >= NAMES {
                break;
            }
        }
        Ok(if batch.is_empty() { Reply::end() } else { Reply::Names(batch) })
    }
}

fn entry(name: Vec<u8>, stat: &Stat, now: i64) -> Name {
    Name { long: line(&name, stat, now), attributes: stat.into(), name }
}

fn one_name(name: Vec<u8>) -> Reply {
    Reply::Names(vec![Name { long: name.clone(), name, attributes: Attributes::default() }])
}

fn handle(reader: &mut Reader<'_>) -> Option<u32> {
    // One that is not ours is a handle that nobody has.
    Some(reader.bytes()?.try_into().map_or(u32::MAX, u32::from_be_bytes))
}

fn read(file: &File, offset: u64, length: u32) -> io::Result<Reply> {
    let length = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
    let mut data = BytesMut::zeroed(length);
    let got = file.read_at(&mut data, offset)?;
    if got == 0 && length > 0 {
        return Ok(Reply::end());
    }
    data.truncate(got);
    Ok(Reply::Data(data))
}

fn set_open(fd: std::os::fd::BorrowedFd<'_>, attributes: &Attributes) -> io::Result<Reply> {
    if let Some(size) = attributes.size {
        rustix::fs::ftruncate(fd, size)?;
    }
    if let Some(mode) = attributes.mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode & 0o7777))?;
    }
    if let Some(times) = attributes.times {
        rustix::fs::futimens(fd, &seconds(times))?;
    }
    if let Some((user, group)) = attributes.owner {
        rustix::fs::fchown(fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    Ok(Reply::done())
}

fn seconds((accessed, modified): (u32, u32)) -> Timestamps {
    let time = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    Timestamps { last_access: time(accessed), last_modification: time(modified) }
}

/// As `struct statvfs` has it; OpenSSH's order.
fn space(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<Reply> {
    let space = rustix::fs::fstatvfs(fd)?;
    Ok(Reply::Numbers(vec![
        space.f_bsize,
        space.f_frsize,
        space.f_blocks,
        space.f_bfree,
        space.f_bavail,
        space.f_files,
        space.f_ffree,
        space.f_favail,
        space.f_fsid,
        space.f_flag.bits(),
        space.f_namemax,
    ]))
}
