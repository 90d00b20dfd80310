use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use burstflare_ports::wire::path;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Unpacked;
use crate::folder;

/// Moves everything in `from` into `to`. Unlike the merging of a bundle it never takes a folder away.
pub(super) fn merge(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    below: &[u8],
    unpacked: &mut Unpacked,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for name in folder::names(from)? {
        let here = if below.is_empty() { name.clone() } else { [below, b"/", &name].concat() };
        let new = folder::kind(&folder::stat(from, &name)?);
        let old = match folder::stat(to, &name) {
            Ok(stat) => Some(folder::kind(&stat)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        match (new, old) {
            (FileType::Directory, Some(FileType::Directory)) => {
                let inner = rustix::fs::openat(from, &name, flags, Mode::empty())?;
                let outer = rustix::fs::openat(to, &name, flags, Mode::empty())?;
                merge(inner.as_fd(), outer.as_fd(), &here, unpacked)?;
            }
            (FileType::Directory, Some(_)) => {
                unpacked.skip(format!("{}: something that is no folder has its name", path::encode(&here)));
            }
            (_, Some(FileType::Directory)) => {
                unpacked.skip(format!("{}: a folder has its name", path::encode(&here)));
            }
            // A rename replaces a file or a link; if a folder came there meanwhile it fails.
            _ => rustix::fs::renameat(from, &name, to, &name)?,
        }
    }
    Ok(())
}
