//! This machine's end of a copy.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use burstflare_agent::archive::{self, Unpacked};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};

use super::flow::{Giver, Reader, flow, next, written};
use super::progress::Progress;
use super::{Copied, Goal, Kind, Source, goal, last_name, omitted, shown};
use crate::context::Context;
use crate::exit::{Exit, Failure};

const BUFFER: usize = 256 << 10;

static NEXT: AtomicU64 = AtomicU64::new(0);

fn failed(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Other,
    };
    Failure::new(exit, format!("{}: {error}", path.display()))
}

fn kind(metadata: &Metadata) -> Kind {
    if metadata.is_dir() {
        Kind::Folder
    } else if metadata.is_file() {
        Kind::File
    } else {
        Kind::Other
    }
}

/// Standard input as a file without a name.
pub(super) fn standard_input() -> Source {
    let flow = written(|out| pass(&mut io::stdin().lock(), out));
    Source { kind: Kind::File, name: None, mode: None, mtime_ns: None, size: None, flow }
}

fn pass(from: &mut impl Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Something to copy from here.
pub(super) fn source(path: &Path, recursive: bool) -> Result<Source, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
    let kind = kind(&metadata);
    let name = last_name(path.as_os_str().as_bytes());
    let (mode, mtime_ns) = (
        Some(metadata.mode() & 0o777),
        metadata.mtime().checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(metadata.mtime_nsec())),
    );
    match kind {
        Kind::Folder if !recursive => Err(omitted(&path.display().to_string())),
        Kind::Folder => {
            let root = folder(path).map_err(|error| failed(path, &error))?;
            let flow = written(move |mut out| archive::pack(&root, &mut out).map(drop));
            Ok(Source { kind, name, mode, mtime_ns, size: None, flow })
        }
        Kind::File => {
            let file = File::options().read(true).custom_flags(nonblocking()).open(path);
            let file = file.map_err(|error| failed(path, &error))?;
            let size = metadata.len();
            let flow = written(move |out| {
                let mut exact = file.take(size);
                pass(&mut exact, out)?;
                if exact.limit() > 0 {
                    Err(io::Error::other("the file shrank while it was read"))
                } else {
                    Ok(())
                }
            });
            Ok(Source { kind, name, mode, mtime_ns, size: Some(size), flow })
        }
        Kind::Other => Err(Failure::usage(format!("{} is neither a file nor a folder", path.display()))
            .hint("Pipe it in: `flare cp - SESSION:NAME`.")),
    }
}

/// What was a file a moment ago may be a pipe now: opening it must not wait.
fn nonblocking() -> i32 {
    i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default()
}

fn folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Writes a file to standard output.
pub(super) async fn standard_output(context: &Context, mut source: Source) -> Result<Copied, Failure> {
    if source.kind == Kind::Folder {
        return Err(Failure::usage("a folder cannot be written to standard output")
            .hint("Use `flare exec SESSION -- tar -c FOLDER`."));
    }
    let mut copied = Copied { entries: 1, ..Copied::default() };
    while let Some(piece) = next(&mut source.flow).await.map_err(|error| cut(&error))? {
        copied.bytes += piece.len() as u64;
        context.output.out_bytes(&piece);
    }
    Ok(copied)
}

fn cut(error: &io::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("the copy broke off: {error}"))
        .hint("Nothing half was left behind; copy again.")
}

/// Puts something in its place here.
pub(super) async fn target(
    path: &Path,
    source: Source,
    progress: &mut Progress<'_>,
) -> Result<Copied, Failure> {
    let text = shown(path.as_os_str());
    let found = match std::fs::metadata(path) {
        Ok(metadata) => Some(kind(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(path, &error)),
    };
    let slash = path.as_os_str().as_bytes().ends_with(b"/");
    let place = match goal(found, slash, &source, &text)? {
        Goal::Here => path.to_owned(),
        Goal::Inside(name) => path.join(std::ffi::OsString::from_vec(name)),
    };
    match source.kind {
        Kind::Folder => take_folder(&place, source, progress).await,
        _ => take_file(&place, source, progress).await,
    }
}

/// The folder that a path is in, and its name there.
fn parent(path: &Path) -> (PathBuf, Vec<u8>) {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            (parent.to_owned(), name.as_bytes().to_vec())
        }
        _ => (path.to_owned(), b".".to_vec()),
    }
}

fn staging_name() -> String {
    format!(".flare-staging-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A file that has no place yet; it goes when this is dropped.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Renamed: nothing is there any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn take_file(path: &Path, mut source: Source, progress: &mut Progress<'_>) -> Result<Copied, Failure> {
    // A link of the user's own is followed, as cp does.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut copied = Copied { entries: 1, ..Copied::default() };
    match std::fs::metadata(path).map(|metadata| kind(&metadata)) {
        Ok(Kind::Folder) => {
            return Err(Failure::new(Exit::Conflict, format!("{} is a folder", path.display())));
        }
        Ok(Kind::Other) => {
            let mut file = File::options().write(true).open(path).map_err(|error| failed(path, &error))?;
            while let Some(piece) = next(&mut source.flow).await.map_err(|error| cut(&error))? {
                file.write_all(&piece).map_err(|error| failed(path, &error))?;
                copied.bytes += piece.len() as u64;
            }
            return Ok(copied);
        }
        _ => {}
    }
    let (folder, _) = parent(path);
    let draft_path = folder.join(staging_name());
    let file = File::options().write(true).create_new(true).mode(0o600).open(&draft_path);
    let mut draft = Draft { file: file.map_err(|error| failed(path, &error))?, path: draft_path };
    while let Some(piece) = next(&mut source.flow).await.map_err(|error| cut(&error))? {
        draft.file.write_all(&piece).map_err(|error| failed(path, &error))?;
        copied.bytes += piece.len() as u64;
        progress.add(piece.len());
    }
    let mode = source.mode.unwrap_or(0o644) & 0o777;
    let settled = rustix::fs::fchmod(&draft.file, Mode::from_raw_mode(mode))
        .and_then(|()| match source.mtime_ns {
            Some(ns) => rustix::fs::futimens(&draft.file, &times(ns)),
            None => Ok(()),
        })
        .map_err(io::Error::from)
        .and_then(|()| std::fs::rename(&draft.path, path));
    settled.map_err(|error| failed(path, &error))?;
    Ok(copied)
}

fn times(ns: i64) -> Timestamps {
    let at = Timespec { tv_sec: ns.div_euclid(1_000_000_000), tv_nsec: ns.rem_euclid(1_000_000_000) as _ };
    Timestamps { last_access: at, last_modification: at }
}

/// A thread that unpacks. Dropping this breaks it off and waits until it has cleaned up behind itself.
struct Unpacking {
    giver: Option<Giver>,
    thread: Option<JoinHandle<io::Result<Unpacked>>>,
}

impl Unpacking {
    fn finish(mut self) -> io::Result<Unpacked> {
        self.giver = None;
        let thread = self.thread.take().ok_or_else(|| io::Error::other("it was waited for already"))?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the unpacking thread died")))
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        self.giver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn take_folder(
    path: &Path,
    mut source: Source,
    progress: &mut Progress<'_>,
) -> Result<Copied, Failure> {
    let at = |error: io::Error| failed(path, &error);
    // Into one that is there, or beside where it will be: always on the file system of its place.
    let (beside, name) = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() || path.as_os_str().as_bytes().ends_with(b"/") => {
            (folder(path).map_err(at)?, b".".to_vec())
        }
        Ok(_) if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) => {
            (folder(path).map_err(at)?, b".".to_vec())
        }
        Ok(_) => return Err(Failure::new(Exit::Conflict, format!("{} is no folder", path.display()))),
        Err(_) => {
            let (parent, name) = parent(path);
            (folder(&parent).map_err(|error| failed(&parent, &error))?, name)
        }
    };
    let (giver, flow) = flow();
    let thread = std::thread::spawn(move || {
        archive::stage(&beside, staging_name().as_bytes(), Reader::new(flow))?.settle(&beside, &name)
    });
    let unpacking = Unpacking { giver: Some(giver), thread: Some(thread) };
    loop {
        let piece = next(&mut source.flow).await.map_err(|error| cut(&error))?;
        let ended = piece.is_none();
        progress.add(piece.as_ref().map_or(0, bytes::Bytes::len));
        let given = match &unpacking.giver {
            Some(giver) => giver.send(Ok(piece.unwrap_or_default())).await.is_ok(),
            None => false,
        };
        // It says itself why it wants no more.
        if ended || !given {
            break;
        }
    }
    let Unpacked { entries, bytes, skipped, why } = unpacking.finish().map_err(at)?;
    Ok(Copied { entries, bytes, skipped, why })
}
