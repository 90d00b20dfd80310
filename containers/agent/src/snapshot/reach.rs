//! Opening files of the tree by their paths, each thread with a way of its own.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::folder::{self, Missing, Opened, Trail};
use crate::tree::member_name;

/// Files may be lifted over their mode by one thread at a time: two would put back each other's.
static LIFTING: Mutex<()> = Mutex::new(());

/// The number of the root that a path of the tree lies in, and what of it lies below.
pub(super) fn split<'p>(roots: &[String], path: &'p [u8]) -> Option<(usize, &'p [u8])> {
    roots.iter().enumerate().find_map(|(at, root)| match path.strip_prefix(member_name(root))? {
        b"" => Some((at, &b""[..])),
        rest => rest.strip_prefix(b"/").map(|below| (at, below)),
    })
}

/// The roots, and the folder of the last file.
pub(super) struct Reach<'r> {
    roots: &'r [String],
    trails: Vec<Trail>,
}

impl<'r> Reach<'r> {
    pub(super) fn new(roots: &'r [String]) -> io::Result<Self> {
        let trails = roots.iter().map(|root| Ok(Trail::new(folder::open_root(root)?)));
        Ok(Self { roots, trails: trails.collect::<io::Result<_>>()? })
    }

    /// Folders of other names in the roots' places.
    pub(super) fn of(roots: &'r [String], folders: &[OwnedFd]) -> io::Result<Self> {
        let trails = folders.iter().map(|folder| Ok(Trail::new(folder.try_clone()?)));
        Ok(Self { roots, trails: trails.collect::<io::Result<_>>()? })
    }

    /// The folder that a path lies in, and its name there; for a root itself that root and no name.
    pub(super) fn place<'p>(&mut self, path: &'p [u8]) -> io::Result<(BorrowedFd<'_>, &'p [u8])> {
        let (trail, below) = self.trail(path)?;
        if below.is_empty() { Ok((trail.root(), below)) } else { trail.parent(below, Missing::Fail) }
    }

    fn trail<'p>(&mut self, path: &'p [u8]) -> io::Result<(&mut Trail, &'p [u8])> {
        let found = split(self.roots, path).and_then(|(at, below)| Some((self.trails.get_mut(at)?, below)));
        found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "outside of the roots"))
    }

    /// A file, for reading; `None` where it is gone, or another thing by now.
    pub(super) fn file(&mut self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let (trail, below) = self.trail(path)?;
        let Some((parent, name)) = folder::present(trail.parent(below, Missing::Fail))? else {
            return Ok(None);
        };
        // NONBLOCK: if a pipe took the file's place, opening must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                let _turn = LIFTING.lock().unwrap_or_else(PoisonError::into_inner);
                let opened = folder::present(Opened::reading(parent, name, OFlags::NONBLOCK, 0o400))?;
                opened.map(Opened::into_file).transpose()?
            }
            other => folder::present(other.map_err(io::Error::from))?,
        };
        // A socket or pipe that took its place is not the file.
        Ok(file.filter(|file| {
            rustix::fs::fstat(file).is_ok_and(|stat| folder::kind(&stat) == rustix::fs::FileType::RegularFile)
        }))
    }

    /// Opens a folder against its mode, for as long as what this answers is kept.
    pub(super) fn shut_folder(&mut self, path: &[u8]) -> io::Result<Option<Opened>> {
        let (trail, below) = self.trail(path)?;
        if below.is_empty() {
            return Ok(None);
        }
        let Some((parent, name)) = folder::present(trail.parent(below, Missing::Fail))? else {
            return Ok(None);
        };
        folder::present(Opened::reading(parent, name, OFlags::DIRECTORY, 0o500))
    }
}
