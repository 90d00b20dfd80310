//! Putting new trees in the place of the old ones. A crash leaves one of the two in all roots: until the record is
//! written the old trees are untouched, from then on [`recover`] finishes what was begun.
//!
//! Each root has its new tree in `.flare-staging/new`. The record lies in the first root's `.flare-staging` and says
//! what belongs directly into each root: what is not in it is old and goes, what is still in `new` has to move, and
//! what is in neither place is there already. So it can be followed any number of times. (A crash between the
//! removal of the record and the very end costs the first root its own time, nothing else.)

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use burstflare_ports::wire::path;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::folder::{self, STAGING, Staging};

const NEW: &[u8] = b"new";
const RECORD: &[u8] = b"record";
const DRAFT: &[u8] = b"record.draft";
/// Bytes of a record: names directly below the roots.
const RECORD_LIMIT: u64 = 512 << 20;

/// Mode and time of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Look {
    pub(super) mode: u32,
    pub(super) mtime_ns: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    roots: Vec<Root>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Root {
    path: String,
    look: Look,
    /// Names in their text form; a folder has its look, which it gets when it is in its place.
    names: HashMap<String, Option<Look>>,
}

/// New trees beside the old ones. Dropped before it is [`Stage::commit`]ted, they are gone.
pub(super) struct Stage {
    roots: Vec<Root>,
    staging: Vec<(Staging, OwnedFd)>,
    /// The folders of the new trees, one for each root.
    pub(super) new: Vec<OwnedFd>,
}

impl Stage {
    /// Makes an empty folder for each new tree. What was begun earlier is finished first.
    pub(super) fn begin(roots: &[String]) -> io::Result<Self> {
        recover(roots)?;
        let mut stage = Self { roots: Vec::new(), staging: Vec::new(), new: Vec::new() };
        for root in roots {
            step()?;
            let (staging, folder) = Staging::begin(root)?;
            rustix::fs::mkdirat(&folder, NEW, Mode::from_raw_mode(0o700))?;
            stage.new.push(open_folder(folder.as_fd(), NEW)?);
            stage.staging.push((staging, folder));
            let look = Look { mode: 0o700, mtime_ns: 0 };
            stage.roots.push(Root { path: root.clone(), look, names: HashMap::new() });
        }
        Ok(stage)
    }

    /// What a folder is going to look like: the root itself, or directly below it. Others have their look already.
    pub(super) fn look(&mut self, root: usize, name: &[u8], look: Look) {
        let Some(root) = self.roots.get_mut(root) else { return };
        if name.is_empty() {
            root.look = look;
        } else {
            root.names.insert(path::encode(name), Some(look));
        }
    }

    /// From here on the new trees are the ones.
    pub(super) fn commit(mut self) -> io::Result<()> {
        for (root, new) in self.roots.iter_mut().zip(&self.new) {
            for name in folder::names(new)? {
                root.names.entry(path::encode(&name)).or_insert(None);
            }
        }
        let record = Record { roots: self.roots };
        let Some((_, first)) = self.staging.first() else { return Ok(()) };
        step()?;
        write(first, &serde_json::to_vec(&record)?)?;
        step()?;
        rustix::fs::renameat(first, DRAFT, first, RECORD)?;
        // Kept, whatever happens now: what is in there is the session's only tree.
        for (staging, _) in self.staging {
            staging.keep();
        }
        follow(&record)
    }
}

fn write(folder: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, DRAFT, flags, Mode::from_raw_mode(0o600))?;
    io::Write::write_all(&mut std::fs::File::from(file), bytes)
}

fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Finishes a swap that was cut off after its record was written. Without one it does nothing.
pub(crate) fn recover(roots: &[String]) -> io::Result<()> {
    let Some(first) = roots.first() else { return Ok(()) };
    let root = folder::open_root(first)?;
    let staging = match open_folder(root.as_fd(), STAGING) {
        Ok(staging) => staging,
        // Nothing there, or nothing of ours.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&staging, RECORD, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(RECORD_LIMIT).read_to_end(&mut bytes)?;
    let record: Record = serde_json::from_slice(&bytes)?;
    if !record.roots.iter().map(|root| &root.path).eq(roots) {
        return Err(io::Error::other("the record of an unfinished restore names other roots"));
    }
    tracing::info!("a restore that was cut off is finished");
    follow(&record)
}

fn follow(record: &Record) -> io::Result<()> {
    for root in &record.roots {
        let handle = open_writable(&root.path)?;
        match open_folder(handle.as_fd(), STAGING).and_then(|staging| open_folder(staging.as_fd(), NEW)) {
            Ok(new) => move_in(handle.as_fd(), new.as_fd(), root)?,
            // This one was done before the crash.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (at, root) in record.roots.iter().enumerate().rev() {
        step()?;
        let handle = open_writable(&root.path)?;
        if at == 0 {
            // The last of all.
            let staging = open_folder(handle.as_fd(), STAGING)?;
            rustix::fs::unlinkat(&staging, RECORD, AtFlags::empty())?;
        }
        folder::remove(handle.as_fd(), STAGING)?;
        rustix::fs::fchmod(&handle, Mode::from_raw_mode(root.look.mode))?;
        rustix::fs::futimens(&handle, &folder::times(root.look.mtime_ns))?;
    }
    Ok(())
}

fn open_writable(root: &str) -> io::Result<OwnedFd> {
    let handle = folder::open_root(root)?;
    let mode = rustix::fs::fstat(&handle)?.st_mode & 0o7777;
    if mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&handle, Mode::from_raw_mode(mode | 0o700))?;
    }
    Ok(handle)
}

/// What is old goes, what is new comes. A name that is in its place stays.
fn move_in(root: BorrowedFd<'_>, new: BorrowedFd<'_>, record: &Root) -> io::Result<()> {
    for name in folder::names(root)? {
        let old = !folder::is_staging(&name)
            && (!record.names.contains_key(&path::encode(&name)) || folder::stat(new, &name).is_ok());
        if old {
            step()?;
            folder::remove(root, &name)?;
        }
    }
    for name in folder::names(new)? {
        step()?;
        rustix::fs::renameat(new, &name, root, &name)?;
    }
    for (name, look) in &record.names {
        if let (Some(name), Some(look)) = (path::decode(name), look) {
            step()?;
            folder::set_mode(root, &name, look.mode)?;
            rustix::fs::utimensat(root, &name, &folder::times(look.mtime_ns), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "tests crash here")]
pub(super) const fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use crash::step;

/// Crashes at a step of the swap, as if the process had been killed: nothing is tidied up.
#[cfg(test)]
pub(super) mod crash {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    pub(in crate::snapshot) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("crashed")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }

    /// From now on on this thread; `None` never.
    pub(in crate::snapshot) fn after(steps: Option<u32>) {
        LEFT.set(steps);
    }

    /// Whether the process is dead.
    pub(crate) fn is_dead() -> bool {
        LEFT.get() == Some(0)
    }
}
