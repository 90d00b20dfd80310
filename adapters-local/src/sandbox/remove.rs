//! Removing trees that somebody else filled: any depth, any mode, any name; no link is followed.
//!
//! A tree is first renamed into the trash, so that it is gone at once and for good, and then taken apart there:
//! folders within folders are moved up until nothing is deep.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Where trees go to be removed; it has to lie on their file system.
#[derive(Debug)]
pub(super) struct Trash {
    path: PathBuf,
    next: AtomicU64,
    emptying: Mutex<()>,
}

impl Trash {
    /// Opens the trash; what an earlier server left in it is removed by the first [`Trash::empty`].
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        super::record::private_folder(&path)?;
        Ok(Self { path, next: AtomicU64::new(0), emptying: Mutex::new(()) })
    }

    /// Takes a tree out of its place. One that is not there is no error.
    pub(super) fn take(&self, tree: &Path) -> io::Result<()> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let place = self.path.join(format!("t{}-{number}", std::process::id()));
            match fs::rename(tree, &place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                // Moving a folder to another one writes its `..`, which needs leave from the folder itself.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    make_accessible(CWD.as_raw_fd(), &c_path(tree))?;
                    return fs::rename(tree, &place);
                }
                outcome => return outcome,
            }
        }
    }

    /// Removes everything that was taken. Blocks.
    pub(super) fn empty(&self) -> io::Result<()> {
        let _turn = self.emptying.lock().unwrap_or_else(PoisonError::into_inner);
        let top = rustix::fs::open(&self.path, folder_flags(), Mode::empty())?;
        let mut waiting: Vec<CString> = Vec::new();
        for name in names(&top)? {
            waiting.push(name);
        }
        let mut moved = 0_u64;
        while let Some(name) = waiting.pop() {
            // One tree that resists must not keep the others: the next who empties tries it again.
            if let Err(error) = self.take_apart(&top, &name, &mut waiting, &mut moved) {
                tracing::warn!(%error, ?name, "something in the trash cannot be removed yet");
            }
        }
        Ok(())
    }

    fn take_apart(
        &self,
        top: &OwnedFd,
        name: &CStr,
        waiting: &mut Vec<CString>,
        moved: &mut u64,
    ) -> io::Result<()> {
        let error = match remove(top, name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => error,
        };
        // Not empty: what is in it comes up to the top.
        make_accessible(top.as_raw_fd(), name)?;
        let folder = rustix::fs::openat(top, name, folder_flags(), Mode::empty())?;
        let inside = names(&folder)?;
        if inside.is_empty() {
            return Err(error.into());
        }
        for inner in inside {
            if matches!(remove(&folder, &inner), Ok(()) | Err(Errno::NOENT)) {
                continue;
            }
            make_accessible(folder.as_raw_fd(), &inner)?;
            *moved += 1;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let place = super::plan::c(format!("m{}-{number}-{moved}", std::process::id()));
            match rustix::fs::renameat(&folder, &*inner, top, &*place) {
                Ok(()) => waiting.push(place),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        waiting.push(name.to_owned());
        Ok(())
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn c_path(path: &Path) -> CString {
    super::plan::c(path.as_os_str().as_encoded_bytes())
}

/// Removes a name: a file of any kind, or an empty folder.
fn remove(folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR),
        outcome => outcome,
    }
}

/// Gives the owner all rights to a folder whose modes forbid them even to the owner.
fn make_accessible(folder: i32, name: &CStr) -> io::Result<()> {
    // SAFETY: the descriptor is the caller's open folder (or the working folder's number) and outlives this call.
    let folder = unsafe { std::os::fd::BorrowedFd::borrow_raw(folder) };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(place) => place,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let meta = rustix::fs::fstat(&place)?;
    if FileType::from_raw_mode(meta.st_mode) == FileType::Directory && meta.st_mode & 0o700 != 0o700 {
        // A handle made with O_PATH cannot be changed itself; its name below /proc can, and leads nowhere else.
        rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU)?;
    }
    Ok(())
}

fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn hostile_trees_go_and_what_they_point_to_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let trash = Trash::open(folder.path().join("trash")).expect("trash");
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).expect("kept");
        fs::write(kept.join("file"), "x").expect("file");
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).expect("tree");
        symlink(&kept, tree.join("link")).expect("link");
        // Far deeper than any path may be long.
        let mut deep = tree.clone();
        for _ in 0..40 {
            deep.push("d".repeat(80));
            fs::create_dir(&deep).expect("folder");
        }
        let mut handle = rustix::fs::open(&deep, folder_flags(), Mode::empty()).expect("open");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&handle, "e", Mode::RWXU).expect("mkdir");
            handle = rustix::fs::openat(&handle, "e", folder_flags(), Mode::empty()).expect("open");
        }
        for mode in [0o000, 0o100, 0o400, 0o555] {
            let odd = tree.join(format!("odd{mode}"));
            fs::create_dir_all(odd.join("inner")).expect("folder");
            fs::write(odd.join("inner/file"), "x").expect("file");
            fs::set_permissions(odd.join("inner"), fs::Permissions::from_mode(mode)).expect("mode");
            fs::set_permissions(&odd, fs::Permissions::from_mode(mode)).expect("mode");
        }
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o500)).expect("mode");
        trash.take(&tree).expect("taken");
        assert!(!tree.exists());
        trash.empty().expect("emptied");
        assert_eq!(fs::read_dir(folder.path().join("trash")).expect("trash").count(), 0);
        assert!(kept.join("file").exists());
    }
}
