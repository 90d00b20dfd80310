//! What is to be made of which chunk.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use burstflare_ports::wire::path;
use burstflare_ports::wire::snapshot::Hash;
use burstflare_ports::wire::snapshot::manifest::Tables;
use burstflare_ports::wire::snapshot::tree::{Body, Entry, Extent};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::folder;
use crate::reply::Refused;
use crate::snapshot::before::Manifest;
use crate::snapshot::reach::Reach;
use crate::snapshot::swap::{Look, Stage, step};

/// Of files that are not whole yet.
const PRIVATE: u32 = 0o600;

/// A regular file that is going to be made.
pub(super) struct Wanted {
    pub(super) path: Vec<u8>,
    pub(super) look: Look,
    pub(super) size: u64,
    pub(super) hash: Hash,
    pub(super) extents: Vec<Extent>,
}

impl Wanted {
    /// Whether one chunk is all of it, so that it is made in one go.
    pub(super) fn is_simple(&self) -> bool {
        matches!(self.extents.as_slice(), [Extent::Chunk(_)])
    }
}

/// What is to be made of which chunk.
pub(super) struct Plan<'r> {
    pub(super) roots: &'r [String],
    pub(super) tables: Arc<Tables>,
    pub(super) files: Vec<Wanted>,
    pub(super) folders: Vec<(Vec<u8>, Look)>,
    /// Further names, and the file that they mean.
    pub(super) names: Vec<(Vec<u8>, u32)>,
    /// Where the places of each chunk begin in `places`.
    pub(super) starts: Vec<u32>,
    /// Files and offsets.
    pub(super) places: Vec<(u32, u64)>,
    /// Chunks by their pack: where they begin in `order`.
    pub(super) packs: Vec<u32>,
    pub(super) order: Vec<u32>,
    pub(super) umask: u32,
}

/// What a file system would not take was in no tree.
pub(super) fn failed(path: &[u8]) -> impl FnOnce(Errno) -> Refused {
    move |problem| match problem {
        Errno::INVAL | Errno::NAMETOOLONG | Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
            Refused::corrupt(format!("The snapshot is damaged: `{}` cannot be a name.", path::encode(path)))
        }
        other => other.into(),
    }
}

pub(super) fn io_failed(path: &[u8]) -> impl FnOnce(io::Error) -> Refused {
    move |problem| match Errno::from_io_error(&problem) {
        Some(problem) => failed(path)(problem),
        None => problem.into(),
    }
}

/// Counts become beginnings, with the end of all behind.
fn beginnings(counts: &mut Vec<u32>) {
    let mut sum = 0;
    for count in counts.iter_mut() {
        (*count, sum) = (sum, sum + *count);
    }
    counts.push(sum);
}

impl<'r> Plan<'r> {
    /// Reads the tree, makes everything but the files' contents, and finds out where each chunk belongs.
    pub(super) fn make(roots: &'r [String], manifest: &Manifest, stage: &mut Stage) -> Result<Self, Refused> {
        let tables = Arc::clone(&manifest.tables);
        let mut plan = Self {
            roots,
            starts: vec![0; tables.chunks.len()],
            packs: vec![0; tables.packs.len()],
            tables,
            files: Vec::new(),
            folders: Vec::new(),
            names: Vec::new(),
            places: Vec::new(),
            order: Vec::new(),
            umask: umask(),
        };
        let mut reach = Reach::of(roots, &stage.new)?;
        let mut groups = Vec::new();
        let mut entries = manifest.entries()?;
        let same =
            entries.roots().iter().all(|root| roots.contains(root)) && entries.roots().len() == roots.len();
        if !same {
            return Err(Refused::unacceptable("The snapshot is one of other roots than this machine's."));
        }
        while let Some(entry) = entries.next()? {
            step()?;
            plan.entry(entry, &mut reach, &mut groups)?;
        }
        plan.sort();
        Ok(plan)
    }

    fn entry(&mut self, entry: Entry, reach: &mut Reach<'_>, groups: &mut Vec<u32>) -> Result<(), Refused> {
        let Entry { path, mode, mtime_ns, body } = entry;
        let look = Look { mode, mtime_ns };
        match body {
            Body::Folder => {
                let (parent, name) = reach.place(&path).map_err(io_failed(&path))?;
                if !name.is_empty() {
                    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(failed(&path))?;
                }
                self.folders.push((path, look));
            }
            Body::Link(target) => {
                let (parent, name) = reach.place(&path).map_err(io_failed(&path))?;
                rustix::fs::symlinkat(&target, parent, name).map_err(failed(&path))?;
                rustix::fs::utimensat(parent, name, &folder::times(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Body::Pipe => {
                let (parent, name) = reach.place(&path).map_err(io_failed(&path))?;
                rustix::fs::mkfifoat(parent, name, Mode::from_raw_mode(mode)).map_err(failed(&path))?;
                // The mask may have taken bits away; there is no link here, we have just made it.
                rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
                rustix::fs::utimensat(parent, name, &folder::times(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Body::Name { group, .. } => {
                let first = groups.get(group as usize).copied().unwrap_or(u32::MAX);
                self.names.push((path, first));
            }
            Body::File(file) => {
                let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
                if file.group.is_some() {
                    groups.push(number);
                }
                for extent in &file.extents {
                    if let Extent::Chunk(chunk) = extent
                        && let Some(count) = self.starts.get_mut(*chunk as usize)
                    {
                        *count += 1;
                    }
                }
                let wanted = Wanted { path, look, size: file.size, hash: file.hash, extents: file.extents };
                if !wanted.is_simple() {
                    // Its parts come in any order.
                    let handle = self.create(reach, &wanted, PRIVATE)?;
                    rustix::fs::ftruncate(&handle, wanted.size)?;
                }
                self.files.push(wanted);
            }
        }
        Ok(())
    }

    /// Sorts places by chunk, and chunks by pack.
    fn sort(&mut self) {
        beginnings(&mut self.starts);
        let mut next = self.starts.clone();
        self.places = vec![(0, 0); self.starts.last().copied().unwrap_or(0) as usize];
        for (file, number) in self.files.iter().zip(0..) {
            let mut offset = 0;
            for extent in &file.extents {
                match extent {
                    Extent::Hole(length) => offset += length,
                    Extent::Chunk(chunk) => {
                        if let Some(at) = next.get_mut(*chunk as usize)
                            && let Some(place) = self.places.get_mut(*at as usize)
                        {
                            *place = (number, offset);
                            *at += 1;
                        }
                        offset +=
                            self.tables.chunks.get(*chunk as usize).map_or(0, |chunk| u64::from(chunk.plain));
                    }
                }
            }
        }
        for chunk in &self.tables.chunks {
            if let Some(count) = self.packs.get_mut(chunk.pack as usize) {
                *count += 1;
            }
        }
        beginnings(&mut self.packs);
        let mut next = self.packs.clone();
        self.order = vec![0; self.tables.chunks.len()];
        for (chunk, number) in self.tables.chunks.iter().zip(0..) {
            if let Some(at) = next.get_mut(chunk.pack as usize)
                && let Some(place) = self.order.get_mut(*at as usize)
            {
                *place = number;
                *at += 1;
            }
        }
    }

    pub(super) fn create(&self, reach: &mut Reach<'_>, file: &Wanted, mode: u32) -> Result<OwnedFd, Refused> {
        let (parent, name) = reach.place(&file.path).map_err(io_failed(&file.path))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode)).map_err(failed(&file.path))
    }

    /// Numbers of the chunks of a pack.
    pub(super) fn chunks_of(&self, pack: usize) -> &[u32] {
        let at = |pack: usize| self.packs.get(pack).map_or(0, |at| *at as usize);
        self.order.get(at(pack)..at(pack + 1)).unwrap_or_default()
    }

    pub(super) fn places_of(&self, chunk: u32) -> &[(u32, u64)] {
        let at = |chunk: usize| self.starts.get(chunk).map_or(0, |at| *at as usize);
        self.places.get(at(chunk as usize)..at(chunk as usize + 1)).unwrap_or_default()
    }

    /// The first file that needs something of a pack.
    pub(super) fn example(&self, pack: usize) -> String {
        let chunk = self.chunks_of(pack).first().map_or(&[][..], |chunk| self.places_of(*chunk));
        let file = chunk.first().and_then(|(file, _)| self.files.get(*file as usize));
        file.map(|file| path::encode(&file.path)).unwrap_or_default()
    }
}

/// The process's mask of modes. Reading it by setting it would show another one to other threads.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    // Unknown: every mode is set once more.
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}
