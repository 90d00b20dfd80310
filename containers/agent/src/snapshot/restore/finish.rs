//! After all contents: what has several parts is read back, names are given, folders get their looks.

use std::io;
use std::os::fd::AsFd;

use burstflare_ports::wire::path;
use burstflare_ports::wire::snapshot::tree::Extent;
use burstflare_ports::wire::snapshot::{Hash, MAX_HASHED_HOLES};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::plan::{Plan, Wanted, failed, io_failed};
use crate::folder;
use crate::reply::Refused;
use crate::snapshot::reach::{Reach, split};
use crate::snapshot::swap::{Look, Stage, step};
use crate::snapshot::work::ordered;

/// For reading back.
const BUFFER: usize = 256 << 10;
/// Of files that are not whole yet.
const PRIVATE: u32 = 0o600;

/// After all contents: what has several parts is read back and compared, names are given, folders get their
/// looks.
pub(super) fn finish(plan: &Plan<'_>, stage: &mut Stage) -> Result<(), Refused> {
    step()?;
    let parts = plan.files.iter().filter(|file| !file.is_simple());
    let new = &stage.new;
    ordered(
        parts,
        || (Reach::of(plan.roots, new), vec![0; BUFFER]),
        |(reach, buffer), file| {
            let reach = reach.as_mut().map_err(|problem| Refused::internal(problem.to_string()))?;
            verify(reach, file, buffer)
        },
        |()| Ok(()),
    )?;
    let mut reach = Reach::of(plan.roots, new)?;
    let mut firsts = Reach::of(plan.roots, new)?;
    for (path, first) in &plan.names {
        step()?;
        let Some(file) = plan.files.get(*first as usize) else { continue };
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
    for (path, look) in plan.folders.iter().rev() {
        step()?;
        let (root, below) = split(plan.roots, path).unwrap_or((0, b""));
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

pub(super) fn damaged(path: &[u8]) -> Refused {
    Refused::corrupt(format!("The snapshot is damaged: `{}` is not what it was.", path::encode(path)))
}
