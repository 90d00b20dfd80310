//! What is told of a file: kind, mode, times, entity tag.

use std::os::fd::AsFd;

use burstflare_ports::wire::files::{FileInfo, FileKind};
use burstflare_ports::wire::path;
use rustix::fs::{FileType, Stat};

use crate::folder::{self, mtime_ns};

/// What a stat tells the kind of.
pub(super) fn kind(stat: &Stat) -> FileKind {
    match folder::kind(stat) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Other,
    }
}

/// The entity tag of a regular file, quoted.
pub(super) fn etag(stat: &Stat) -> String {
    let mut hasher = blake3::Hasher::new();
    // Not the device: its number is another one in the machine's next life.
    let numbers = [
        i128::from(stat.st_ino),
        i128::from(stat.st_size),
        i128::from(mtime_ns(stat)),
        i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec),
    ];
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    let digest = hasher.finalize().to_hex();
    format!("\"{}\"", digest.as_str().get(..32).unwrap_or_default())
}

/// Everything; `folder` and `name` are asked where a link points.
pub(super) fn info(path_text: String, stat: &Stat, folder: impl AsFd, name: &[u8]) -> FileInfo {
    let kind = kind(stat);
    let link = || rustix::fs::readlinkat(folder, name, Vec::new()).ok();
    FileInfo {
        path: path_text,
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        mtime_ns: mtime_ns(stat),
        etag: (kind == FileKind::File).then(|| etag(stat)),
        link: (kind == FileKind::Link).then(link).flatten().map(|link| path::encode(link.as_bytes())),
    }
}
