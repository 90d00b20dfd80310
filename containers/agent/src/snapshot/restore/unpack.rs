//! Packs as they come, unpacked into files on several threads.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use burstflare_ports::wire::snapshot::stream::Part;
use burstflare_ports::wire::snapshot::{Hash, MAX_CHUNK};
use rustix::fs::{Mode, OFlags};

use super::finish::damaged;
use super::plan::{Plan, failed, io_failed};
use crate::folder;
use crate::reply::Refused;
use crate::snapshot::reach::Reach;
use crate::snapshot::swap::{Look, Stage, step};
use crate::snapshot::work::threads;

/// Plain bytes that one thread unpacks before it asks for more.
const BATCH_BYTES: u64 = 1 << 20;
/// Batches that wait for a thread.
const WAITING: usize = 4;

/// Part of a pack, to be unpacked by one thread.
struct Job {
    pack: Arc<Vec<u8>>,
    number: usize,
    /// Where its chunks are among the pack's.
    from: usize,
    to: usize,
}

/// Takes the packs as they come and unpacks them on several threads.
pub(super) fn unpack(
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
