//! The way back: a manifest and its packs become the roots' trees. Everything is made beside the old trees and
//! verified before it takes their place.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use burstflare_ports::wire::path;
use burstflare_ports::wire::snapshot::manifest::Tables;
use burstflare_ports::wire::snapshot::stream::{Decoder, Order, Part};
use burstflare_ports::wire::snapshot::tree::{Body, Entry, Extent};
use burstflare_ports::wire::snapshot::{Hash, MAX_CHUNK, MAX_HASHED_HOLES};
use burstflare_ports::wire::tree::Summary;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::before::{Manifest, Taking};
use super::reach::Reach;
use super::swap::{Look, Stage, step};
use super::work::{ordered, threads};
use crate::folder;
use crate::reply::Refused;

/// Bytes taken from the body at once.
const PIECE: usize = 256 << 10;
/// Plain bytes that one thread unpacks before it asks for more.
const BATCH_BYTES: u64 = 1 << 20;
/// Batches that wait for a thread.
const WAITING: usize = 4;
/// For reading back.
const BUFFER: usize = 256 << 10;
const PRIVATE: u32 = 0o600;

/// Makes the roots exactly the tree of a stream.
pub(super) fn restore(roots: &[String], mut body: impl Read) -> Result<Summary, Refused> {
    let mut decoder = Decoder::new(Order::ManifestFirst);
    let mut taking = Taking::default();
    let mut piece = vec![0; PIECE];
    let mut next = || -> Result<Option<Vec<Part>>, Refused> {
        match body.read(&mut piece)? {
            // The last piece may have been damaged behind parts that were fine.
            0 => Ok(decoder.push(&[]).map(|_| None)?),
            length => Ok(Some(decoder.push(piece.get(..length).unwrap_or_default())?)),
        }
    };
    // The manifest is over where something else comes.
    let mut rest: Vec<Part> = Vec::new();
    let mut ended = false;
    while rest.is_empty() && !ended {
        match next()? {
            None => ended = true,
            Some(parts) => {
                for part in parts {
                    match part {
                        Part::Manifest(bytes) => taking.push(&bytes)?,
                        other => rest.push(other),
                    }
                }
            }
        }
    }
    let manifest = taking.finish()?;
    let mut stage = Stage::begin(roots)?;
    let plan = Plan::make(roots, &manifest, &mut stage)?;
    let summary = manifest.tables.header.summary();
    unpack(&plan, &stage, rest, &mut next)?;
    if decoder.finish()?.as_ref() != b"{}" {
        return Err(Refused::corrupt("The snapshot's stream has an unknown trailer."));
    }
    plan.finish(&mut stage)?;
    stage.commit()?;
    Ok(summary)
}

/// A regular file that is going to be made.
struct Wanted {
    path: Vec<u8>,
    look: Look,
    size: u64,
    hash: Hash,
    extents: Vec<Extent>,
}

impl Wanted {
    /// Whether one chunk is all of it, so that it is made in one go.
    fn is_simple(&self) -> bool {
        matches!(self.extents.as_slice(), [Extent::Chunk(_)])
    }
}

/// What is to be made of which chunk.
struct Plan<'r> {
    roots: &'r [String],
    tables: Arc<Tables>,
    files: Vec<Wanted>,
    folders: Vec<(Vec<u8>, Look)>,
    /// Further names, and the file that they mean.
    names: Vec<(Vec<u8>, u32)>,
    /// Where the places of each chunk begin in `places`.
    starts: Vec<u32>,
    /// Files and offsets.
    places: Vec<(u32, u64)>,
    /// Chunks by their pack: where they begin in `order`.
    packs: Vec<u32>,
    order: Vec<u32>,
    umask: u32,
}

/// What a file system would not take was in no tree.
fn failed(path: &[u8]) -> impl FnOnce(Errno) -> Refused {
    move |problem| match problem {
        Errno::INVAL | Errno::NAMETOOLONG | Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
            Refused::corrupt(format!("The snapshot is damaged: `{}` cannot be a name.", path::encode(path)))
        }
        other => other.into(),
    }
}

fn io_failed(path: &[u8]) -> impl FnOnce(io::Error) -> Refused {
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
    fn make(roots: &'r [String], manifest: &Manifest, stage: &mut Stage) -> Result<Self, Refused> {
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

    fn create(&self, reach: &mut Reach<'_>, file: &Wanted, mode: u32) -> Result<OwnedFd, Refused> {
        let (parent, name) = reach.place(&file.path).map_err(io_failed(&file.path))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode)).map_err(failed(&file.path))
    }

    /// Numbers of the chunks of a pack.
    fn chunks_of(&self, pack: usize) -> &[u32] {
        let at = |pack: usize| self.packs.get(pack).map_or(0, |at| *at as usize);
        self.order.get(at(pack)..at(pack + 1)).unwrap_or_default()
    }

    fn places_of(&self, chunk: u32) -> &[(u32, u64)] {
        let at = |chunk: usize| self.starts.get(chunk).map_or(0, |at| *at as usize);
        self.places.get(at(chunk as usize)..at(chunk as usize + 1)).unwrap_or_default()
    }

    /// The first file that needs something of a pack.
    fn example(&self, pack: usize) -> String {
        let chunk = self.chunks_of(pack).first().map_or(&[][..], |chunk| self.places_of(*chunk));
        let file = chunk.first().and_then(|(file, _)| self.files.get(*file as usize));
        file.map(|file| path::encode(&file.path)).unwrap_or_default()
    }

    /// After all contents: what has several parts is read back and compared, names are given, folders get their
    /// looks.
    fn finish(&self, stage: &mut Stage) -> Result<(), Refused> {
        step()?;
        let parts = self.files.iter().filter(|file| !file.is_simple());
        let new = &stage.new;
        ordered(
            parts,
            || (Reach::of(self.roots, new), vec![0; BUFFER]),
            |(reach, buffer), file| {
                let reach = reach.as_mut().map_err(|problem| Refused::internal(problem.to_string()))?;
                verify(reach, file, buffer)
            },
            |()| Ok(()),
        )?;
        let mut reach = Reach::of(self.roots, new)?;
        let mut firsts = Reach::of(self.roots, new)?;
        for (path, first) in &self.names {
            step()?;
            let Some(file) = self.files.get(*first as usize) else { continue };
            let (from, old) = firsts.place(&file.path).map_err(io_failed(&file.path))?;
            let (to, name) = reach.place(path).map_err(io_failed(path))?;
            match rustix::fs::linkat(from, old, to, name, AtFlags::empty()) {
                // Roots on disks of their own, or a limit on names: as good as a file of the same content.
                Err(Errno::XDEV | Errno::MLINK) => {
                    copy(&file.path, &mut firsts, path, &mut reach, file.look)?;
                }
                other => other.map_err(failed(path))?,
            }
        }
        // The deepest first: the look of a folder may forbid to go into it.
        for (path, look) in self.folders.iter().rev() {
            step()?;
            let (root, below) = super::reach::split(self.roots, path).unwrap_or((0, b""));
            if !below.contains(&b'/') {
                // They move once more.
                stage.look(root, below, *look);
                continue;
            }
            let (parent, name) = reach.place(path).map_err(io_failed(path))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&handle, Mode::from_raw_mode(look.mode))?;
            rustix::fs::futimens(&handle, &folder::times(look.mtime_ns))?;
        }
        Ok(())
    }
}

fn copy(
    path: &[u8],
    from: &mut Reach<'_>,
    other: &[u8],
    to: &mut Reach<'_>,
    look: Look,
) -> Result<(), Refused> {
    let Some(source) = from.file(path)? else { return Err(Refused::internal("a new file is gone")) };
    let (parent, name) = to.place(other).map_err(io_failed(other))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target =
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(PRIVATE)).map_err(failed(other))?;
    let mut target = std::fs::File::from(target);
    io::copy(&mut std::fs::File::from(source), &mut target)?;
    settle(&target, look)
}

fn settle(file: &impl AsFd, look: Look) -> Result<(), Refused> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(look.mode))?;
    Ok(rustix::fs::futimens(file, &folder::times(look.mtime_ns))?)
}

/// Reads back a file that was put together of parts.
fn verify(reach: &mut Reach<'_>, file: &Wanted, buffer: &mut [u8]) -> Result<(), Refused> {
    let Some(handle) = reach.file(&file.path)? else { return Err(Refused::internal("a new file is gone")) };
    let holes = file.extents.iter().fold(0u64, |sum, extent| match extent {
        Extent::Hole(length) => sum.saturating_add(*length),
        Extent::Chunk(_) => sum,
    });
    if holes <= MAX_HASHED_HOLES {
        let mut hasher = blake3::Hasher::new();
        loop {
            match rustix::io::retry_on_intr(|| rustix::io::read(&handle, &mut *buffer))? {
                0 => break,
                length => hasher.update(buffer.get(..length).unwrap_or_default()),
            };
        }
        if Hash::from(hasher.finalize()) != file.hash {
            return Err(damaged(&file.path));
        }
    }
    settle(&handle, file.look)
}

fn damaged(path: &[u8]) -> Refused {
    Refused::corrupt(format!("The snapshot is damaged: `{}` is not what it was.", path::encode(path)))
}

/// Part of a pack, to be unpacked by one thread.
struct Job {
    pack: Arc<Vec<u8>>,
    number: usize,
    /// Where its chunks are among the pack's.
    from: usize,
    to: usize,
}

/// Takes the packs as they come and unpacks them on several threads.
fn unpack(
    plan: &Plan<'_>,
    stage: &Stage,
    first: Vec<Part>,
    next: &mut dyn FnMut() -> Result<Option<Vec<Part>>, Refused>,
) -> Result<(), Refused> {
    let (sender, receiver) = sync_channel(WAITING);
    let receiver = Mutex::new(receiver);
    let failure = Mutex::new(None);
    let done = std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                let mut tools = Reach::of(plan.roots, &stage.new).map(Unpacking::new);
                while let Some(job) = take(&receiver) {
                    let failure = || failure.lock().unwrap_or_else(PoisonError::into_inner);
                    // After a failure they are only thrown away.
                    if failure().is_some() {
                        continue;
                    }
                    let result = match &mut tools {
                        Ok(tools) => tools.job(plan, &job),
                        Err(problem) => Err(Refused::internal(problem.to_string())),
                    };
                    if let Err(refused) = result {
                        failure().get_or_insert(refused);
                    }
                }
            });
        }
        let done = feed(plan, first, next, &sender, &failure);
        drop(sender);
        done
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(refused) => Err(refused),
        None => done,
    }
}

fn take(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn feed(
    plan: &Plan<'_>,
    first: Vec<Part>,
    next: &mut dyn FnMut() -> Result<Option<Vec<Part>>, Refused>,
    sender: &SyncSender<Job>,
    failure: &Mutex<Option<Refused>>,
) -> Result<(), Refused> {
    let mut number = 0;
    let mut bytes = Vec::new();
    let mut parts = first;
    loop {
        for part in parts {
            match part {
                Part::PackBegin(pack) => {
                    if plan.tables.packs.get(number) != Some(&pack) {
                        return Err(Refused::corrupt("The snapshot's packs are not those of its manifest."));
                    }
                    bytes = Vec::with_capacity(pack.length as usize);
                }
                Part::PackBytes(more) => bytes.extend_from_slice(&more),
                Part::PackEnd { .. } => {
                    step()?;
                    let pack = Arc::new(std::mem::take(&mut bytes));
                    let chunks = plan.chunks_of(number);
                    let (mut from, mut plain) = (0, 0);
                    for (at, chunk) in chunks.iter().enumerate() {
                        plain +=
                            plan.tables.chunks.get(*chunk as usize).map_or(0, |chunk| u64::from(chunk.plain));
                        if plain >= BATCH_BYTES || at + 1 == chunks.len() {
                            let job = Job { pack: Arc::clone(&pack), number, from, to: at + 1 };
                            // Nobody takes it where a thread has panicked; the scope resumes that.
                            if sender.send(job).is_err() {
                                return Ok(());
                            }
                            (from, plain) = (at + 1, 0);
                        }
                    }
                    number += 1;
                    if failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                        return Ok(());
                    }
                }
                Part::Manifest(_) => return Err(Refused::corrupt("The snapshot's stream is out of order.")),
            }
        }
        let example = |refused: Refused| match refused.code {
            "corrupt" => {
                Refused { message: format!("{} (`{}`)", refused.message, plan.example(number)), ..refused }
            }
            _ => refused,
        };
        match next().map_err(example)? {
            Some(more) => parts = more,
            None if number == plan.tables.packs.len() => return Ok(()),
            None => return Err(Refused::corrupt("The snapshot's stream lacks packs.")),
        }
    }
}

/// What a thread needs to unpack chunks into files.
struct Unpacking<'r> {
    reach: Reach<'r>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    buffer: Vec<u8>,
    /// The last file that has several parts.
    open: Option<(u32, OwnedFd)>,
}

impl<'r> Unpacking<'r> {
    fn new(reach: Reach<'r>) -> Self {
        Self { reach, decompressor: zstd::bulk::Decompressor::new().ok(), buffer: Vec::new(), open: None }
    }

    fn job(&mut self, plan: &Plan<'_>, job: &Job) -> Result<(), Refused> {
        for number in plan.chunks_of(job.number).get(job.from..job.to).unwrap_or_default() {
            let Some(chunk) = plan.tables.chunks.get(*number as usize) else { continue };
            let places = plan.places_of(*number);
            let frame =
                job.pack.get(chunk.offset as usize..).and_then(|rest| rest.get(..chunk.stored as usize));
            let plain = (chunk.plain.min(MAX_CHUNK)) as usize;
            if self.buffer.len() < plain {
                self.buffer.resize(plain, 0);
            }
            let buffer = self.buffer.get_mut(..plain).unwrap_or_default();
            let decompressor =
                self.decompressor.as_mut().ok_or_else(|| Refused::internal("no memory to decompress"))?;
            let length = decompressor.decompress_to_buffer(frame.unwrap_or_default(), buffer);
            if length.ok() != Some(plain) || Hash::of(buffer) != chunk.hash {
                let file = places.first().and_then(|(file, _)| plan.files.get(*file as usize));
                return Err(damaged(file.map_or(&[], |file| &file.path)));
            }
            for (file, offset) in places {
                self.write(plan, *file, *offset, plain)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, plan: &Plan<'_>, number: u32, offset: u64, length: usize) -> Result<(), Refused> {
        let Some(file) = plan.files.get(number as usize) else { return Ok(()) };
        let bytes = self.buffer.get(..length).unwrap_or_default();
        if file.is_simple() {
            let Look { mode, mtime_ns } = file.look;
            let handle = plan.create(&mut self.reach, file, mode)?;
            write_at(&handle, bytes, 0)?;
            if mode & plan.umask != 0 || mode > 0o777 {
                rustix::fs::fchmod(&handle, Mode::from_raw_mode(mode))?;
            }
            return Ok(rustix::fs::futimens(&handle, &folder::times(mtime_ns))?);
        }
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let (parent, name) = self.reach.place(&file.path).map_err(io_failed(&file.path))?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle =
                rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed(&file.path))?;
            self.open = Some((number, handle));
        }
        match &self.open {
            Some((_, handle)) => write_at(handle, bytes, offset),
            None => Ok(()),
        }
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Refused> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?;
        bytes = bytes.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}

/// The process's mask of modes. Reading it by setting it would show another one to other threads.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    // Unknown: every mode is set once more.
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}
