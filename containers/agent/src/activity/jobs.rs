//! Jobs that the user's scripts mark: whoever holds a lock (flock(2)) on a file below `awake/` keeps the machine
//! awake, for example `flock /run/user/1000/flare/awake/train python train.py`.
//!
//! A lock is used rather than a file's existence because it ends with its holder, however that ends. The locks are
//! read from `/proc/locks`: trying to take them could get in the way of a script that tries at the same moment.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

/// Files below the folder that are looked at.
const FILES: usize = 256;
/// Bytes of `/proc/locks` that are read.
const TABLE: u64 = 1 << 20;
/// A lock that has been held for so long is taken for forgotten.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A file as the kernel's table of locks names it: major and minor number of its device, inode.
type File = (u32, u32, u64);

/// The marked jobs.
pub(super) struct Jobs {
    folder: PathBuf,
    /// Since when each is known.
    held: HashMap<File, Instant>,
}

impl Jobs {
    /// Marked below this folder.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, held: HashMap::new() }
    }

    /// How many run now, without those that have run for a day.
    pub(super) fn running(&mut self) -> u32 {
        let files = self.files();
        let held = if files.is_empty() { HashSet::new() } else { locked() };
        self.held.retain(|file, _| held.contains(file) && files.contains(file));
        let now = Instant::now();
        for file in files.intersection(&held) {
            self.held.entry(*file).or_insert(now);
        }
        let fresh = self.held.values().filter(|since| now.duration_since(**since) < LONGEST).count();
        u32::try_from(fresh).unwrap_or(u32::MAX)
    }

    /// The regular files of the folder, which is the user's: nothing in it is opened, no link is followed.
    fn files(&self) -> HashSet<File> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(folder) = rustix::fs::openat(CWD, &self.folder, flags, Mode::empty()) else {
            return HashSet::new();
        };
        let Ok(entries) = Dir::read_from(&folder) else { return HashSet::new() };
        let stat = |entry: rustix::fs::DirEntry| {
            rustix::fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).ok()
        };
        entries
            .flatten()
            .take(FILES)
            .filter_map(stat)
            .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
            .map(|stat| (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev), stat.st_ino))
            .collect()
    }
}

/// The files on which somebody holds a lock of flock(2), as `/proc/locks` tells (proc(5)): only processes of this
/// machine are listed there.
fn locked() -> HashSet<File> {
    use std::io::Read as _;
    let mut table = String::new();
    let read =
        std::fs::File::open("/proc/locks").and_then(|file| file.take(TABLE).read_to_string(&mut table));
    if read.is_err() {
        return HashSet::new();
    }
    table.lines().filter_map(holder).collect()
}

/// `1: FLOCK  ADVISORY  WRITE 708 00:13:10250 0 EOF`; a line of somebody who waits has `->` after its number.
fn holder(line: &str) -> Option<File> {
    let mut words = line.split_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let mut file = words.nth(3)?.split(':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    Some((major, minor, file.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FlockOperation;

    #[test]
    fn lines_of_the_table() {
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 708 fe:1a:10250 0 EOF"), Some((0xfe, 0x1a, 10250)));
        for other in [
            "",
            "2: POSIX  ADVISORY  WRITE 708 00:13:10250 0 EOF",
            "2: -> FLOCK  ADVISORY  WRITE 708 00:13:10250 0 EOF",
            "3: LEASE  ACTIVE    READ  708 00:13:10250 0 EOF",
            "4: FLOCK  ADVISORY  WRITE 708 00:10250",
            "4: FLOCK  ADVISORY",
        ] {
            assert_eq!(holder(other), None, "{other}");
        }
    }

    #[test]
    fn only_held_locks_of_regular_files_in_the_folder_count() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
        let path = |name: &str| folder.path().join(name);
        let mut jobs = Jobs::new(folder.path().to_owned());
        std::fs::write(path("idle"), "").expect("file");
        std::fs::create_dir(path("sub")).expect("folder");
        let elsewhere = tempfile::NamedTempFile::new_in("/dev/shm").expect("file");
        rustix::fs::flock(&elsewhere, FlockOperation::LockExclusive).expect("lock");
        std::os::unix::fs::symlink(elsewhere.path(), path("link")).expect("link");
        assert_eq!(jobs.running(), 0);
        let mark = std::fs::File::create(path("job")).expect("file");
        assert_eq!(jobs.running(), 0, "not locked yet");
        rustix::fs::flock(&mark, FlockOperation::LockShared).expect("lock");
        assert_eq!(jobs.running(), 1);
        let long_ago = Instant::now().checked_sub(LONGEST);
        if let (Some(long_ago), Some(since)) = (long_ago, jobs.held.values_mut().next()) {
            *since = long_ago;
            assert_eq!(jobs.running(), 0, "forgotten");
        }
        drop(mark);
        assert_eq!(jobs.running(), 0);
        assert!(jobs.held.is_empty());
        assert_eq!(Jobs::new(path("missing")).running(), 0);
    }
}
