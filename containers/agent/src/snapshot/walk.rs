//! Listing the roots on several threads: every folder once, by handles, its entries looked at but not opened.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use burstflare_ports::wire::path;
use burstflare_ports::wire::snapshot::{MAX_DEPTH, MAX_ENTRIES};
use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::seen::Seen;
use super::work::threads;
use crate::folder::{self, Opened};
use crate::reply::Refused;

/// Folders whose mode has to be lifted to look into them: each holds two handles for as long as the scan lasts.
pub(super) const MAX_SHUT: usize = 1000;
/// For the names of a folder.
const BUFFER: usize = 32 << 10;

/// Something in a folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Box<[u8]>,
    pub(super) seen: Seen,
    /// Of a symbolic link.
    pub(super) target: Box<[u8]>,
    /// Number of the listing of a folder.
    pub(super) listing: usize,
}

/// Everything below the roots.
pub(super) struct Listings {
    /// The roots themselves, by their number; their listings have the same numbers.
    pub(super) roots: Vec<Seen>,
    /// What is in each folder, sorted by name.
    pub(super) folders: Vec<Vec<Found>>,
    /// Folders that are open for the while although their mode forbids it, by their listing. Dropping this shuts
    /// them again.
    pub(super) shut: Shut,
}

/// Folders that are kept open against their mode.
#[derive(Default)]
pub(super) struct Shut(HashMap<usize, Arc<Opened>>);

impl Shut {
    pub(super) fn contains(&self, listing: usize) -> bool {
        self.0.contains_key(&listing)
    }
}

struct Task {
    listing: usize,
    depth: usize,
    place: Place,
}

enum Place {
    Root(Arc<Opened>),
    In(Arc<Opened>, Box<[u8]>),
}

struct State {
    tasks: Vec<Task>,
    /// Threads that may still find more.
    busy: usize,
    folders: Vec<Vec<Found>>,
    shut: Shut,
    entries: u64,
    failed: Option<Refused>,
}

struct Walk {
    state: Mutex<State>,
    changed: Condvar,
}

/// Lists everything below the roots.
pub(super) fn walk(roots: &[String]) -> Result<Listings, Refused> {
    let mut seen = Vec::new();
    let mut tasks = Vec::new();
    for (listing, root) in roots.iter().enumerate() {
        let handle = folder::open_root(root)?;
        seen.push(Seen::from(&rustix::fs::fstat(&handle)?));
        tasks.push(Task { listing, depth: 0, place: Place::Root(Arc::new(Opened::plain(handle))) });
    }
    let walk = Walk {
        state: Mutex::new(State {
            tasks,
            busy: 0,
            folders: roots.iter().map(|_| Vec::new()).collect(),
            shut: Shut::default(),
            entries: roots.len() as u64,
            failed: None,
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads() {
            scope.spawn(|| walk.run());
        }
        walk.run();
    });
    let state = walk.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(refused) => Err(refused),
        None => Ok(Listings { roots: seen, folders: state.folders, shut: state.shut }),
    }
}

impl Walk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        loop {
            let mut state = self.lock();
            let task = loop {
                if state.failed.is_some() {
                    return;
                }
                if let Some(task) = state.tasks.pop() {
                    state.busy += 1;
                    break task;
                }
                if state.busy == 0 {
                    drop(state);
                    self.changed.notify_all();
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            let listed = list(&task, &mut buffer);
            let mut state = self.lock();
            state.busy -= 1;
            let told = match listed {
                Ok(listed) => state.take(&task, listed),
                Err(problem) => Err(problem.into()),
            };
            if let Err(refused) = told {
                state.failed = Some(refused);
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}

impl State {
    fn take(&mut self, task: &Task, listed: Option<(Arc<Opened>, Vec<Found>)>) -> Result<(), Refused> {
        // Gone since it was seen: it stays as an empty folder.
        let Some((handle, mut found)) = listed else { return Ok(()) };
        self.entries += found.len() as u64;
        if self.entries > MAX_ENTRIES {
            return Err(Refused::too_large(format!("The roots hold more than {MAX_ENTRIES} entries.")));
        }
        if handle.is_lifted() {
            self.shut.0.insert(task.listing, Arc::clone(&handle));
            if self.shut.0.len() > MAX_SHUT {
                return Err(Refused::too_large(format!(
                    "More than {MAX_SHUT} folders forbid their owner to read them."
                )));
            }
        }
        for found in found.iter_mut().filter(|found| found.seen.kind == FileType::Directory) {
            found.listing = self.folders.len();
            self.folders.push(Vec::new());
            if task.depth >= MAX_DEPTH {
                let name = path::encode(&found.name);
                return Err(Refused::too_large(format!("Folders are nested too deep: `{name}`.")));
            }
            self.tasks.push(Task {
                listing: found.listing,
                depth: task.depth + 1,
                place: Place::In(Arc::clone(&handle), found.name.clone()),
            });
        }
        if let Some(folder) = self.folders.get_mut(task.listing) {
            *folder = found;
        }
        Ok(())
    }
}

/// A folder's handle and entries; `None` where it is gone, or another thing by now.
fn list(task: &Task, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Option<(Arc<Opened>, Vec<Found>)>> {
    let handle = match &task.place {
        Place::Root(handle) => Arc::clone(handle),
        Place::In(parent, name) => {
            match folder::present(Opened::reading(&parent.file, name, OFlags::DIRECTORY, 0o500))? {
                Some(handle) => Arc::new(handle),
                None => return Ok(None),
            }
        }
    };
    let mut found = Vec::new();
    let mut entries = RawDir::new(handle.file.as_fd(), buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // A folder that was removed while it is open.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || task.depth == 0 && folder::is_staging(name) {
            continue;
        }
        found.extend(look(handle.file.as_fd(), entry.file_name())?);
    }
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(Some((handle, found)))
}

/// `None` for what is gone since the listing, and for what is not kept: sockets die with their process, devices
/// cannot be made by the user.
fn look(folder: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<Option<Found>> {
    let seen = match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Seen::from(&stat),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let target = match seen.kind {
        FileType::Directory | FileType::RegularFile | FileType::Fifo => Box::default(),
        FileType::Symlink => match rustix::fs::readlinkat(folder, name, Vec::new()) {
            Ok(target) => target.into_bytes().into_boxed_slice(),
            // Gone, or no link any more.
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        },
        _ => return Ok(None),
    };
    Ok(Some(Found { name: name.to_bytes().into(), seen, target, listing: 0 }))
}
