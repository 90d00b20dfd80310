//! A machine's own copy of its layer, where the kernel does not map owners.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use super::record::{Folder, private_folder};
use super::remove::Trash;

/// The machine's copy of a layer, made where it is not there yet; one of another layer goes.
pub(super) fn own_copy(folder: &Folder, layer: &Path, owner: u32, trash: &Trash) -> io::Result<PathBuf> {
    let copies = folder.path.join("layer");
    private_folder(&copies)?;
    let place = copies.join(layer.file_name().unwrap_or_default());
    for entry in fs::read_dir(&copies)?.flatten().filter(|entry| entry.path() != place) {
        trash.take(&entry.path())?;
    }
    if !place.exists() {
        let beside = copies.join("new");
        // The layer is ours alone: unpacked and verified by this server, and closed to everybody else.
        copy(layer, &beside, Some(owner))?;
        rustix::fs::syncfs(fs::File::open(&beside)?)?;
        fs::rename(&beside, &place)?;
    }
    Ok(place)
}

fn copy(from: &Path, to: &Path, owner: Option<u32>) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let mode = Mode::from_raw_mode(meta.mode() & 0o1777);
    match FileType::from_raw_mode(meta.mode()) {
        FileType::Directory => {
            private_folder(to)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                copy(&entry.path(), &to.join(entry.file_name()), owner)?;
            }
        }
        FileType::RegularFile => drop(fs::copy(from, to)?),
        FileType::Symlink => symlink(fs::read_link(from)?, to)?,
        FileType::Fifo => rustix::fs::mknodat(CWD, to, FileType::Fifo, mode, 0)?,
        // Layers hold nothing else.
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    lchown(to, owner, owner)?;
    if !meta.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o1777))?;
    }
    let at = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() };
    let times = Timestamps { last_access: at, last_modification: at };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_layer_is_copied() {
        let folder = tempfile::tempdir().expect("folder");
        let from = folder.path().join("layer");
        fs::create_dir_all(from.join("workspace/closed")).expect("folders");
        fs::write(from.join("workspace/file"), "content").expect("file");
        fs::set_permissions(from.join("workspace/file"), fs::Permissions::from_mode(0o751)).expect("mode");
        symlink("/nowhere", from.join("workspace/link")).expect("link");
        rustix::fs::mknodat(CWD, from.join("workspace/pipe"), FileType::Fifo, Mode::RUSR, 0).expect("pipe");
        let at = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_000_000 };
        let times = Timestamps { last_access: at, last_modification: at };
        let workspace = from.join("workspace");
        rustix::fs::utimensat(CWD, &workspace, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
        fs::set_permissions(from.join("workspace/closed"), fs::Permissions::from_mode(0o1755)).expect("mode");
        let to = folder.path().join("copy");
        copy(&from, &to, None).expect("copied");
        assert_eq!(fs::read(to.join("workspace/file")).expect("file"), b"content");
        let mode = |name: &str| fs::symlink_metadata(to.join("workspace").join(name)).expect("entry").mode();
        assert_eq!(mode("file"), 0o100_751);
        assert_eq!(mode("closed"), 0o041_755);
        assert_eq!(mode("pipe") & 0o170_000, 0o010_000);
        assert_eq!(fs::read_link(to.join("workspace/link")).expect("link"), Path::new("/nowhere"));
        let meta = fs::metadata(to.join("workspace")).expect("folder");
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 123_000_000));
    }
}
