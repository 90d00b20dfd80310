//! Work below one folder by directory handles: every step opens one name of one folder and follows no link, so
//! nothing that the session's own processes do meanwhile leads out of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

/// Name of the folder, directly below a root, in which new content is put together before it replaces the old.
pub(crate) const STAGING: &[u8] = b".flare-staging";
/// Whether a name directly below a root is one of ours: of [`STAGING`], or of a file or tree that is being written.
pub(crate) fn is_staging(name: &[u8]) -> bool {
    name.strip_prefix(STAGING).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'-'))
}

/// Removes what earlier lives of the machine left behind in a root.
pub(crate) fn sweep(root: &str) -> io::Result<()> {
    let root = open_root(root)?;
    for name in names(&root)?.into_iter().filter(|name| is_staging(name)) {
        remove(root.as_fd(), &name)?;
    }
    Ok(())
}

/// Levels of folders; each holds a handle and some stack.
const DEPTH: usize = 4000;

/// Opens a folder by its absolute path.
pub(crate) fn open_root(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What is there, itself and not what it points to.
pub(crate) fn stat(folder: impl AsFd, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Type of what a stat tells of.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Names in a folder, sorted as bytes.
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = match entry {
            Ok(entry) => entry,
            // The folder was removed while it is open.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A folder or file opened for reading although its mode forbids it even to its owner. The mode is put back when
/// this is dropped.
pub(crate) struct Opened {
    /// The handle.
    pub(crate) file: OwnedFd,
    put_back: Option<(OwnedFd, Mode)>,
}

impl Opened {
    /// What is open already.
    pub(crate) const fn plain(file: OwnedFd) -> Self {
        Self { file, put_back: None }
    }

    /// Whether the mode was lifted, and waits to be put back.
    pub(crate) const fn is_lifted(&self) -> bool {
        self.put_back.is_some()
    }

    /// Puts the mode back at once and keeps the handle, which stays good. (Not for folders: looking up a name in
    /// one asks for its mode each time.)
    pub(crate) fn into_file(mut self) -> io::Result<OwnedFd> {
        restore(self.put_back.take());
        self.file.try_clone()
    }

    /// Opens for reading; what lacks the owner's bits in `needed` gets them for the while.
    pub(crate) fn reading(folder: impl AsFd, name: &[u8], flags: OFlags, needed: u32) -> io::Result<Self> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Ok(file) if needed & !0o400 == 0 || mode_of(&file)? & needed == needed => {
                return Ok(Self { file, put_back: None });
            }
            Ok(_) | Err(Errno::ACCESS) => {}
            Err(other) => return Err(other.into()),
        }
        let handle = rustix::fs::openat(
            folder,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mode = mode_of(&handle)?;
        let through = format!("/proc/self/fd/{}", handle.as_raw_fd());
        rustix::fs::chmod(&through, Mode::from_raw_mode(mode | needed))?;
        let put_back = Some((handle, Mode::from_raw_mode(mode)));
        // From here on dropping puts the mode back, an error included.
        let flags = flags - OFlags::NOFOLLOW;
        match rustix::fs::open(&through, flags, Mode::empty()) {
            Ok(file) => Ok(Self { file, put_back }),
            Err(error) => {
                restore(put_back);
                Err(error.into())
            }
        }
    }

    /// For what is going to be removed: there is nothing to put back.
    pub(crate) fn forget_mode(&mut self) {
        self.put_back = None;
    }
}

/// `None` for what is gone, or is something else by now.
pub(crate) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Sets the mode of what is there under this name, itself and not what it points to.
pub(crate) fn set_mode(folder: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::from_raw_mode(mode))?)
}

fn mode_of(file: &OwnedFd) -> rustix::io::Result<u32> {
    Ok(rustix::fs::fstat(file)?.st_mode & 0o7777)
}

fn restore(put_back: Option<(OwnedFd, Mode)>) {
    let Some((handle, mode)) = put_back else { return };
    if let Err(problem) = rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode) {
        tracing::warn!(%problem, "a mode could not be put back");
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        restore(self.put_back.take());
    }
}

/// Removes whatever is there under this name, folders with everything in them, whatever their modes.
pub(crate) fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    remove_at(folder, name, 0)
}

fn remove_at(folder: BorrowedFd<'_>, name: &[u8], depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if depth > DEPTH {
        return Err(io::Error::other("folders are nested too deep"));
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let mut opened = Opened::reading(folder, name, OFlags::DIRECTORY, 0o700)?;
    opened.forget_mode();
    for child in names(&opened.file)? {
        remove_at(opened.file.as_fd(), &child, depth + 1)?;
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A modification time in nanoseconds, as it is set.
pub(crate) fn times(mtime_ns: i64) -> Timestamps {
    let modified = Timespec {
        tv_sec: mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: mtime_ns.rem_euclid(1_000_000_000) as _,
    };
    Timestamps { last_access: modified, last_modification: modified }
}

/// A modification time in nanoseconds, as it is read.
pub(crate) fn mtime_ns(stat: &Stat) -> i64 {
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// The way to the folder of the last path, kept open: archives name neighbours one after the other.
pub(crate) struct Trail {
    root: OwnedFd,
    steps: Vec<(Vec<u8>, OwnedFd)>,
}

/// Whether folders on the way are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They have to be there.
    Fail,
    /// Made, for the owner only until their mode is known.
    Make,
}

impl Trail {
    /// Begins at a folder.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, steps: Vec::new() }
    }

    /// The folder it began at.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The folder that holds `path` and the name in it. The path has to be clean and not empty.
    pub(crate) fn parent<'p>(
        &mut self,
        path: &'p [u8],
        missing: Missing,
    ) -> io::Result<(BorrowedFd<'_>, &'p [u8])> {
        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let name = parts.pop().unwrap_or_default();
        if parts.len() > DEPTH || parts.iter().chain([&name]).any(|part| matches!(*part, b"" | b"." | b".."))
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a clean path"));
        }
        let common = self.steps.iter().zip(&parts).take_while(|((have, _), want)| have == *want).count();
        self.steps.truncate(common);
        for part in parts.into_iter().skip(common) {
            let here = self.here();
            if missing == Missing::Make {
                match rustix::fs::mkdirat(here, part, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let step = rustix::fs::openat(here, part, flags, Mode::empty())?;
            self.steps.push((part.to_vec(), step));
        }
        Ok((self.here(), name))
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.steps.last().map_or(self.root.as_fd(), |(_, folder)| folder.as_fd())
    }
}

/// A root with a staging folder in it, which goes when this is dropped; the root's mode and time are
/// then as they were.
pub(crate) struct Staging {
    root: OwnedFd,
    mode: u32,
    mtime_ns: i64,
    kept: bool,
}

impl Staging {
    /// Makes an empty staging folder; what an earlier, interrupted one left is removed.
    pub(crate) fn begin(root: &str) -> io::Result<(Self, OwnedFd)> {
        let root = open_root(root)?;
        let before = rustix::fs::fstat(&root)?;
        let staging = Self { root, mode: before.st_mode & 0o7777, mtime_ns: mtime_ns(&before), kept: false };
        if staging.mode & 0o700 != 0o700 {
            rustix::fs::fchmod(&staging.root, Mode::from_raw_mode(staging.mode | 0o700))?;
        }
        remove(staging.root(), STAGING)?;
        rustix::fs::mkdirat(staging.root(), STAGING, Mode::from_raw_mode(0o700))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(staging.root(), STAGING, flags, Mode::empty())?;
        Ok((staging, folder))
    }

    /// The root.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Leaves everything as it is: somebody else tidies up.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    /// Another mode and time for the root at the end: its content is new.
    pub(crate) fn settle(&mut self, mode: u32, mtime_ns: i64) {
        self.mode = mode;
        self.mtime_ns = mtime_ns;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        #[cfg(test)]
        if crate::snapshot::is_dead() {
            return;
        }
        if self.kept {
            return;
        }
        let gone = remove(self.root(), STAGING)
            .and_then(|()| Ok(rustix::fs::futimens(&self.root, &times(self.mtime_ns))?))
            .and_then(|()| Ok(rustix::fs::fchmod(&self.root, Mode::from_raw_mode(self.mode))?));
        if let Err(problem) = gone {
            // A mount point may belong to somebody else.
            tracing::warn!(%problem, "a staging folder, or the root's mode or time, is not as it should be");
        }
    }
}

/// Moves everything in `from` into `to`. Folders that both have are merged, otherwise the new wins.
pub(crate) fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for name in names(from)? {
        let new = stat(from, &name)?;
        match stat(to, &name) {
            Ok(old) if kind(&new) == FileType::Directory && kind(&old) == FileType::Directory => {
                let inner = Opened::reading(from, &name, OFlags::DIRECTORY, 0o700)?;
                let outer = Opened::reading(to, &name, OFlags::DIRECTORY, 0o700)?;
                merge(inner.file.as_fd(), outer.file.as_fd())?;
                drop(inner);
                rustix::fs::unlinkat(from, &name, AtFlags::REMOVEDIR)?;
                continue;
            }
            Ok(_) => remove(to, &name)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        rustix::fs::renameat(from, &name, to, &name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn handle(path: &std::path::Path) -> OwnedFd {
        open_root(path.to_str().expect("UTF-8")).expect("opens")
    }

    #[test]
    fn the_trail_follows_no_link() {
        let folder = tempfile::tempdir().expect("folder");
        let outside = tempfile::tempdir().expect("folder");
        symlink(outside.path(), folder.path().join("out")).expect("link");
        let mut trail = Trail::new(handle(folder.path()));
        assert!(trail.parent(b"out/x", Missing::Make).is_err());
        for path in [&b"../x"[..], b"a/../x", b"/x", b"a//x", b"", b"a/"] {
            assert!(trail.parent(path, Missing::Make).is_err(), "{path:?}");
        }
        let (_, name) = trail.parent(b"a/b/c", Missing::Make).expect("made");
        assert_eq!(name, b"c");
        assert!(folder.path().join("a/b").is_dir());
        assert!(trail.parent(b"n/c", Missing::Fail).is_err());
    }

    #[test]
    fn removing_does_not_follow_links_and_minds_no_mode() {
        let folder = tempfile::tempdir().expect("folder");
        let outside = tempfile::tempdir().expect("folder");
        fs::write(outside.path().join("kept"), "x").expect("write");
        fs::create_dir_all(folder.path().join("d/e")).expect("mkdir");
        fs::write(folder.path().join("d/e/f"), "x").expect("write");
        symlink(outside.path(), folder.path().join("d/out")).expect("link");
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        fs::set_permissions(folder.path().join("d/e"), closed).expect("chmod");
        remove(handle(folder.path()).as_fd(), b"d").expect("removed");
        assert!(!folder.path().join("d").exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn merging_lets_the_new_win() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |path: &str| folder.path().join(path);
        for path in ["new/d/e", "old/d/k", "old/f"] {
            fs::create_dir_all(at(path)).expect("mkdir");
        }
        fs::write(at("new/d/x"), "new").expect("write");
        fs::write(at("old/d/x"), "old").expect("write");
        fs::write(at("new/f"), "file over folder").expect("write");
        merge(handle(&at("new")).as_fd(), handle(&at("old")).as_fd()).expect("merged");
        assert_eq!(fs::read(at("old/d/x")).expect("read"), b"new");
        assert!(at("old/d/e").is_dir() && at("old/d/k").is_dir() && at("old/f").is_file());
        assert_eq!(fs::read_dir(at("new")).expect("list").count(), 0);
    }
}
