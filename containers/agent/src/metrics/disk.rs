//! Bytes below the roots. A walk costs what the tree is large, so its result is kept for a while that grows with it.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::folder;

/// A walk ends after this time, with what it has seen.
const TIME: Duration = Duration::from_secs(2);
const ENTRIES: u64 = 1_000_000;
/// Levels of folders; each holds a handle.
const DEPTH: usize = 256;
/// A result is good for so many times what the walk took.
const REST: u32 = 50;
/// And at least for so long.
const SHORTEST: Duration = Duration::from_secs(1);

/// The last walk.
#[derive(Default)]
pub(super) struct Disk(Mutex<Option<Known>>);

#[derive(Clone, Copy)]
struct Known {
    until: Instant,
    bytes: u64,
    complete: bool,
}

impl Disk {
    /// Bytes, and whether everything was seen. One walk at a time; blocks.
    pub(super) fn look(&self, roots: &[String]) -> (u64, bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        let fresh = known.filter(|known| known.until > begin).unwrap_or_else(|| {
            let mut walk =
                Walk { until: begin + TIME, entries: 0, bytes: 0, complete: true, linked: HashSet::new() };
            for root in roots {
                match folder::open_root(root) {
                    Ok(root) => walk.folder(root.as_fd(), 0),
                    Err(_) => walk.complete = false,
                }
            }
            let rest = (begin.elapsed() * REST).max(SHORTEST);
            Known { until: Instant::now() + rest, bytes: walk.bytes, complete: walk.complete }
        });
        *known = Some(fresh);
        (fresh.bytes, fresh.complete)
    }
}

struct Walk {
    until: Instant,
    entries: u64,
    bytes: u64,
    complete: bool,
    /// Files with several names, which are counted once.
    linked: HashSet<(u64, u64)>,
}

impl Walk {
    fn folder(&mut self, handle: BorrowedFd<'_>, depth: usize) {
        let Ok(entries) = Dir::read_from(handle) else {
            self.complete = false;
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES || Instant::now() > self.until {
                self.complete = false;
                return;
            }
            let Ok(stat) = folder::stat(handle, name) else { continue };
            let kind = folder::kind(&stat);
            let again = kind == FileType::RegularFile
                && stat.st_nlink > 1
                && !self.linked.insert((stat.st_dev, stat.st_ino));
            if !again {
                self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            if kind == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(handle, name, flags, Mode::empty()) {
                    Ok(inner) if depth < DEPTH => self.folder(inner.as_fd(), depth + 1),
                    _ => self.complete = false,
                }
            }
        }
    }
}
