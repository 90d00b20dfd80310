use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use burstflare_ports::wire::path;
use burstflare_ports::wire::tree::Kind;
use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::folder;
use crate::tree::{Member, end, padding};

const BUFFER: usize = 128 << 10;
/// Levels of folders; each holds a handle.
const DEPTH: usize = 256;

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes the archive of an open folder. No link is followed and nothing but regular files is opened. A file that
/// shrinks while it is read is an error: the archive would lie.
///
/// # Errors
/// Those of the file system and of `out`.
pub fn pack(root: &OwnedFd, out: &mut impl Write) -> io::Result<Packed> {
    let mut packing = Packing { out, packed: Packed::default(), buffer: vec![0; BUFFER] };
    packing.entry(b".", Kind::Folder, &rustix::fs::fstat(root)?, 0, None)?;
    packing.inside(root.as_fd(), b"", 0)?;
    end(packing.out)?;
    Ok(packing.packed)
}

struct Packing<'a, W: Write> {
    out: &'a mut W,
    packed: Packed,
    buffer: Vec<u8>,
}

impl<W: Write> Packing<'_, W> {
    fn inside(&mut self, folder: BorrowedFd<'_>, prefix: &[u8], depth: usize) -> io::Result<()> {
        for name in folder::names(folder)? {
            if depth == 0 && folder::is_staging(&name) {
                continue;
            }
            let here = if prefix.is_empty() { name.clone() } else { [prefix, b"/", &name].concat() };
            // Gone since the listing: it is not there.
            let Ok(stat) = folder::stat(folder, &name) else { continue };
            match folder::kind(&stat) {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    match rustix::fs::openat(folder, &name, flags, Mode::empty()) {
                        Ok(_) if depth >= DEPTH => {
                            return Err(io::Error::other(format!(
                                "{} is nested too deep",
                                path::encode(&here)
                            )));
                        }
                        Ok(inner) => {
                            self.entry(&here, Kind::Folder, &rustix::fs::fstat(&inner)?, 0, None)?;
                            self.inside(inner.as_fd(), &here, depth + 1)?;
                        }
                        Err(_) => self.entry(&here, Kind::Pipe, &stat, 0, None)?,
                    }
                }
                FileType::Symlink => match rustix::fs::readlinkat(folder, &name, Vec::new()) {
                    Ok(target) => self.entry(&here, Kind::Link, &stat, 0, Some(target.as_bytes()))?,
                    Err(_) => self.entry(&here, Kind::Pipe, &stat, 0, None)?,
                },
                FileType::RegularFile => self.file(folder, &name, &here, &stat)?,
                _ => self.entry(&here, Kind::Pipe, &stat, 0, None)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, folder: BorrowedFd<'_>, name: &[u8], here: &[u8], stat: &Stat) -> io::Result<()> {
        // It may have become a pipe since it was looked at: opening one must not wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(folder, name, flags, Mode::empty());
        let opened = opened.and_then(|file| Ok((rustix::fs::fstat(&file)?, file)));
        let Some((stat, file)) = opened.ok().filter(|(stat, _)| folder::kind(stat) == FileType::RegularFile)
        else {
            return self.entry(here, Kind::Pipe, stat, 0, None);
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.entry(here, Kind::File, &stat, size, None)?;
        let mut left = size;
        let mut file = File::from(file);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = file.read(self.buffer.get_mut(..most).unwrap_or_default())?;
            if read == 0 {
                return Err(io::Error::other(format!("{} shrank while it was read", path::encode(here))));
            }
            self.out.write_all(self.buffer.get(..read).unwrap_or_default())?;
            left -= read as u64;
        }
        self.packed.bytes += size;
        padding(size, self.out)
    }

    fn entry(
        &mut self,
        name: &[u8],
        kind: Kind,
        stat: &Stat,
        size: u64,
        link: Option<&[u8]>,
    ) -> io::Result<()> {
        self.packed.entries += 1;
        let mode = stat.st_mode & 0o777;
        Member { name, kind, mode, mtime_ns: folder::mtime_ns(stat), size, link }.write(self.out)
    }
}
