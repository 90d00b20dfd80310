//! `PUT /v1/files`: a whole new content. It is put together beside the tree and takes the name at once, so that nobody
//! ever sees half of it, and nothing of it stays when the call breaks off.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burstflare_ports::wire::files::{FileInfo, FileKind};
use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::condition::Condition;
use super::place::Place;
use super::{Query, blocking, change, info, refuse};
use crate::agent::Agent;
use crate::body;
use crate::folder::{self, STAGING};
use crate::reply::{Refused, Reply};

const CHUNK: usize = 256 << 10;
const DEFAULT_MODE: u32 = 0o644;

/// Tells apart what is being written; names of earlier lives are swept when the agent starts.
static NEXT: AtomicU64 = AtomicU64::new(0);

struct Wish {
    mode: Option<u32>,
    mtime_ns: Option<i64>,
    parents: bool,
    condition: Condition,
}

/// See the module.
pub(super) async fn put(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Reply, Refused> {
    let (head, mut body) = request.into_parts();
    let result = take(agent, &Request::from_parts(head, ()), &mut body).await;
    if result.is_err() {
        body::swallow(&mut body).await;
    }
    result
}

async fn take(agent: &Arc<Agent>, request: &Request<()>, body: &mut Incoming) -> Result<Reply, Refused> {
    let mut query = Query::of(request)?;
    let path_text = query.path()?;
    let mode = query.text("mode").map(|text| {
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777 && !text.starts_with('+'))
            .ok_or_else(|| Refused::invalid("`mode` is octal, 0 to 777."))
    });
    let wish = Wish {
        mode: mode.transpose()?,
        mtime_ns: query.number("mtime_ns")?,
        parents: query.flag("parents")?,
        condition: Condition::read(request.headers())?,
    };
    query.finish()?;
    let slot = agent.files.place().await?;
    let roots = agent.roots.clone();
    let (place, wish, draft) = blocking(move || {
        let place = Place::find(&roots, &path_text)?;
        // What is wrong already is said before a byte is sent. It is looked at again when everything is there.
        current(&place, &wish)?;
        let draft = Draft::begin(&place)?;
        Ok((place, wish, draft))
    })
    .await?;
    let draft = receive(body, draft).await?;
    let turn = Arc::clone(&agent.files.turn).lock_owned().await;
    let info = blocking(move || {
        let result = settle(&place, &wish, &draft);
        drop(turn);
        result
    })
    .await?;
    drop(slot);
    super::answer(&info)
}

/// Takes the body in pieces of a quarter mebibyte; the sender waits while the disk does.
async fn receive(body: &mut Incoming, draft: Draft) -> Result<Draft, Refused> {
    let mut draft = Some(draft);
    let mut piece = BytesMut::new();
    let mut total = 0_u64;
    loop {
        let chunk = body::next(body).await.map_err(|error| Refused::invalid(error.to_string()))?;
        let ended = chunk.is_none();
        total += chunk.as_ref().map_or(0, Bytes::len) as u64;
        piece.extend_from_slice(&chunk.unwrap_or_default());
        if piece.len() >= CHUNK || ended && !piece.is_empty() {
            let bytes = piece.split().freeze();
            let mut writing = draft.take().ok_or_else(|| Refused::internal("no draft"))?;
            draft = Some(
                blocking(move || {
                    writing.file.write_all(&bytes).map_err(refuse::of_io)?;
                    Ok(writing)
                })
                .await?,
            );
        }
        if ended {
            break;
        }
    }
    if total > (8 << 20) {
        body::release_memory();
    }
    draft.ok_or_else(|| Refused::internal("no draft"))
}

/// What is there now, held against the condition. Only a file or nothing can be replaced.
fn current(place: &Place, wish: &Wish) -> Result<Option<rustix::fs::Stat>, Refused> {
    if place.is_root() {
        return Err(refuse::is_folder());
    }
    let found = match place.parent() {
        Ok((parent, name)) => match folder::stat(&parent, name) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(refuse::of(error)),
        },
        Err(refused) if refused.code == "no_such_file" && wish.parents => None,
        Err(refused) => return Err(refused),
    };
    if let Some(stat) = &found {
        match info::kind(stat) {
            FileKind::File => wish.condition.check(Some(&info::etag(stat)))?,
            // With `If-None-Match: *` the answer is that something is there, whatever it is.
            _ if wish.condition.wants_nothing() => return Err(refuse::changed()),
            FileKind::Folder => return Err(refuse::is_folder()),
            FileKind::Link => return Err(refuse::is_link()),
            FileKind::Other => return Err(refuse::not_file()),
        }
    } else {
        wish.condition.check(None)?;
    }
    Ok(found)
}

/// Gives the draft its name, if the condition still holds.
fn settle(place: &Place, wish: &Wish, draft: &Draft) -> Result<FileInfo, Refused> {
    if wish.parents {
        change::make_parents(place)?;
    }
    let found = current(place, wish)?;
    // The mode stays what it was. Set-id bits do not survive a write by somebody else, so they do not survive this.
    let kept = found.as_ref().map(|stat| stat.st_mode & 0o777);
    let mode = wish.mode.or(kept).unwrap_or(DEFAULT_MODE);
    rustix::fs::fchmod(&draft.file, Mode::from_raw_mode(mode)).map_err(refuse::of)?;
    // To the nanosecond where the kernel's own clock of files ticks coarsely: two versions never look alike.
    let times = folder::times(wish.mtime_ns.unwrap_or_else(now_ns));
    rustix::fs::futimens(&draft.file, &times).map_err(refuse::of)?;
    draft.file.sync_all().map_err(refuse::of_io)?;
    let (parent, name) = place.parent()?;
    if found.is_some() {
        rustix::fs::renameat(&draft.root, &draft.name, &parent, name).map_err(refuse::of)?;
    } else {
        let rename =
            rustix::fs::renameat_with(&draft.root, &draft.name, &parent, name, RenameFlags::NOREPLACE);
        match rename {
            // A process of the session was faster.
            Err(Errno::EXIST) => return Err(refuse::changed()),
            Err(Errno::INVAL | Errno::NOSYS) => {
                let linked = rustix::fs::linkat(&draft.root, &draft.name, &parent, name, AtFlags::empty());
                linked.map_err(|error| match error {
                    Errno::EXIST => refuse::changed(),
                    error => refuse::of(error),
                })?;
            }
            result => result.map_err(refuse::of)?,
        }
    }
    let synced =
        rustix::fs::openat(&parent, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::fs::fsync);
    if let Err(problem) = synced {
        // A folder that may be written to but not read cannot be opened for that.
        tracing::debug!(%problem, "a folder was not flushed");
    }
    let stat = rustix::fs::fstat(&draft.file).map_err(refuse::of)?;
    Ok(info::info(place.text(), &stat, parent.as_fd(), name))
}

fn now_ns() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// A file without its place yet, directly below the root: another folder of the same file system, so that a rename is
/// all it takes, and one place to sweep. It goes when this is dropped.
struct Draft {
    root: OwnedFd,
    name: Vec<u8>,
    file: File,
}

impl Draft {
    fn begin(place: &Place) -> Result<Self, Refused> {
        let root = place.root.try_clone().map_err(refuse::of_io)?;
        let name = staging_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&root, &name, flags, Mode::from_raw_mode(0o600)).map_err(refuse::of)?;
        Ok(Self { root, name, file: file.into() })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Where it was renamed there is nothing under the name any more.
        let _ = rustix::fs::unlinkat(&self.root, &self.name, AtFlags::empty());
    }
}

/// A fresh name that captures leave out and the next life sweeps.
pub(super) fn staging_name() -> Vec<u8> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    [STAGING, format!("-{}-{number}", now_ns()).as_bytes()].concat()
}
