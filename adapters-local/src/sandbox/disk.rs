//! A machine's disks: one folder per disk, in it one upper and one work folder per root.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use burstflare_ports::error::PortResult;
use burstflare_ports::machine::{DiskPlan, DiskState, Epoch};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::failed;
use super::layout::ROOTS;
use super::record::{Folder, Seal};
use super::remove::Trash;

/// The disk a machine gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its number.
    pub number: u64,
    /// Whether it is the one of the life before.
    pub state: DiskState,
}

/// Chooses and, where it is a new one, makes the disk of the next life. `owner` is the machine's host user where it
/// has one; `layer` is the folder of the layer below.
pub(super) fn choose(
    folder: &Folder,
    plan: DiskPlan,
    owner: Option<u32>,
    layer: Option<&Path>,
    trash: &Trash,
) -> PortResult<Chosen> {
    let seal = folder.seal();
    let numbers = folder.disk_numbers();
    let chosen = match (plan, seal) {
        (DiskPlan::Keep, Some(seal)) => Chosen { number: seal.disk, state: DiskState::Kept },
        _ => Chosen { number: numbers.iter().max().map_or(1, |last| last + 1), state: DiskState::Fresh },
    };
    // Disks that were begun and never declared whole.
    for number in numbers.iter().filter(|number| seal.is_none_or(|seal| seal.disk != **number)) {
        trash
            .take(&folder.disk(*number))
            .map_err(failed("machine.start", "cannot put an unfinished disk aside"))?;
    }
    make(folder, chosen.number, owner, layer)
        .map_err(failed("machine.start", "cannot make the machine's disk"))?;
    Ok(chosen)
}

/// Makes the folders of a disk, those that are missing: none of them is flushed before something is put into it, so
/// a host crash can take them from a disk that was declared whole when it was empty.
fn make(folder: &Folder, number: u64, owner: Option<u32>, layer: Option<&Path>) -> io::Result<()> {
    let disk = folder.disk(number);
    own_folder(&folder.disks(), owner, 0o700)?;
    own_folder(&disk, owner, 0o700)?;
    for (path, name) in ROOTS {
        let root = disk.join(name);
        own_folder(&root, owner, 0o700)?;
        own_folder(&root.join("work"), owner, 0o700)?;
        // The upper folder's modes are what the root shows.
        let mode = layer.and_then(|layer| fs::symlink_metadata(layer.join(path)).ok());
        own_folder(&root.join("upper"), owner, mode.map_or(0o755, |meta| meta.mode() & 0o1777))?;
    }
    Ok(())
}

/// Makes a folder and gives it away; one that is there stays as it is, unless it was never given away.
fn own_folder(path: &Path, owner: Option<u32>, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let of = fs::symlink_metadata(path)?.uid();
            if owner.is_none_or(|owner| owner == of) {
                return Ok(());
            }
        }
        outcome => outcome?,
    }
    if mode != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    chown(path, owner, owner)
}

/// Declares a life's disk whole: first everything on it reaches stable storage, then the record does.
pub(super) fn seal(folder: &Folder, epoch: Epoch, number: u64, trash: &Trash) -> PortResult<()> {
    let before = folder.seal();
    if before.is_some_and(|seal| seal.epoch == epoch && seal.disk == number) {
        return Ok(());
    }
    let disk = folder.disk(number);
    if before.is_none_or(|seal| seal.disk != number) && !is_empty(&disk) {
        flush(&disk).map_err(failed("machine.seal", "cannot flush the disk"))?;
    }
    folder.set_seal(Seal { epoch, disk: number })?;
    for other in folder.disk_numbers().into_iter().filter(|other| *other != number) {
        trash.take(&folder.disk(other)).map_err(failed("machine.seal", "cannot put the old disk aside"))?;
    }
    Ok(())
}

/// Whether nothing was put on a disk yet: then there is nothing to bring to stable storage, for its folders can be made anew.
fn is_empty(disk: &Path) -> bool {
    ROOTS.iter().all(|(_, name)| {
        fs::read_dir(disk.join(name).join("upper")).is_ok_and(|mut entries| entries.next().is_none())
    })
}

/// Brings a tree to stable storage: file by file while they are few, else the whole file system, which may have
/// to write what others left in memory too.
fn flush(tree: &Path) -> io::Result<()> {
    const FEW: usize = 512;
    let mut left = FEW;
    let root = rustix::fs::open(tree, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let seen = walk(&root, &mut |folder, name, kind| {
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok(Walk::End);
        }
        if matches!(kind, FileType::RegularFile | FileType::Directory) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match rustix::fs::openat(folder, name, flags, Mode::empty()) {
                Ok(file) => rustix::fs::fsync(file)?,
                // A file whose modes forbid reading even to its owner, who is us.
                Err(_) => return Ok(Walk::End),
            }
        }
        Ok(Walk::On)
    })?;
    if seen == Seen::All {
        rustix::fs::fsync(&root)?;
    } else {
        rustix::fs::syncfs(&root)?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    On,
    End,
}

type Visit<'a> = dyn FnMut(&OwnedFd, &std::ffi::CStr, FileType) -> io::Result<Walk> + 'a;

/// How deep one pass goes, and how many deeper folders may wait for a pass of their own; both cost descriptors.
const DEPTH: usize = 100;
const DEEPER: usize = 64;

/// How much of a tree was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Everything.
    All,
    /// All but folders whose modes forbid it; a server that is not root meets those.
    Readable,
    /// Not the folders beyond what one walk may hold open, or the visitor ended it.
    Part,
}

/// Visits everything below a folder by directory handles, following no link.
fn walk(folder: &OwnedFd, visit: &mut Visit<'_>) -> io::Result<Seen> {
    let mut seen = Seen::All;
    let mut waiting = vec![rustix::io::fcntl_dupfd_cloexec(folder, 0)?];
    while let Some(top) = waiting.pop() {
        let Ok(entries) = Dir::read_from(&top) else {
            seen = seen.max(Seen::Readable);
            continue;
        };
        let mut stack = vec![(top, entries)];
        while let Some((folder, entries)) = stack.last_mut() {
            let entry = match entries.next() {
                Some(Ok(entry)) => entry,
                Some(Err(_)) => {
                    seen = seen.max(Seen::Readable);
                    stack.pop();
                    continue;
                }
                None => {
                    stack.pop();
                    continue;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(meta) => FileType::from_raw_mode(meta.st_mode),
                    Err(_) => continue,
                },
                kind => kind,
            };
            if visit(folder, name, kind)? == Walk::End {
                return Ok(Seen::Part);
            }
            if kind != FileType::Directory {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&*folder, name, flags, Mode::empty()) {
                Ok(inner) if stack.len() < DEPTH => match Dir::read_from(&inner) {
                    Ok(inside) => stack.push((inner, inside)),
                    Err(_) => seen = seen.max(Seen::Readable),
                },
                Ok(inner) if waiting.len() < DEEPER => waiting.push(inner),
                Ok(_) => seen = Seen::Part,
                Err(_) => seen = seen.max(Seen::Readable),
            }
        }
    }
    Ok(seen)
}

/// What an entry costs beside its blocks, so that empty files are not free.
const ENTRY: u64 = 512;

/// Bytes that a disk takes: blocks of everything below it, files with several names once, and [`ENTRY`] each. A tree
/// that is too deep and wide to be seen counts as endless: nobody hides bytes behind it.
pub(super) fn usage(disk: &Path) -> io::Result<u64> {
    let root = rustix::fs::open(disk, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = 0_u64;
    let mut several = HashSet::new();
    let seen = walk(&root, &mut |folder, name, _| {
        if let Ok(meta) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            && (meta.st_nlink <= 1
                || FileType::from_raw_mode(meta.st_mode) == FileType::Directory
                || several.insert(meta.st_ino))
        {
            let blocks = u64::try_from(meta.st_blocks).unwrap_or_default();
            bytes = bytes.saturating_add(blocks.saturating_mul(512)).saturating_add(ENTRY);
        }
        Ok(Walk::On)
    })?;
    Ok(if seen == Seen::Part { u64::MAX } else { bytes })
}

#[cfg(test)]
mod tests {
    use burstflare_ports::machine::{MachineKey, MachineOwner};

    use super::*;

    #[test]
    fn a_kept_disk_gets_back_the_folders_that_a_host_crash_took_and_keeps_the_others() {
        let place = tempfile::tempdir().expect("folder");
        let trash = Trash::open(place.path().join("trash")).expect("trash");
        let id = "01M84QG73Y10ADK5C3N7S7JNGD";
        let owner: MachineOwner = format!("ses_{id}").parse().expect("an owner");
        let key = MachineKey { workspace: format!("ws_{id}").parse().expect("an id"), owner };
        let folder = Folder::make(place.path(), key).expect("made");
        let first = choose(&folder, DiskPlan::Keep, None, None, &trash).expect("chosen");
        assert_eq!(first.state, DiskState::Fresh);
        seal(&folder, 1, first.number, &trash).expect("sealed");
        let of = |part: &str| folder.disk(first.number).join(part);
        fs::set_permissions(of("workspace/upper"), fs::Permissions::from_mode(0o750)).expect("mode");
        fs::write(of("workspace/upper/file"), "kept").expect("written");
        fs::remove_dir_all(of("home-flare")).expect("removed");

        let second = choose(&folder, DiskPlan::Keep, None, None, &trash).expect("chosen");
        assert_eq!(second, Chosen { number: first.number, state: DiskState::Kept });
        assert!(of("home-flare/upper").is_dir() && of("home-flare/work").is_dir());
        assert_eq!(fs::read(of("workspace/upper/file")).expect("read"), b"kept");
        let mode = fs::metadata(of("workspace/upper")).expect("there").mode() & 0o7777;
        assert_eq!(mode, 0o750, "what the user chose");
    }
}
