//! `POST` and `DELETE /v1/files`: names that come, move and go.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burstflare_ports::wire::files::{FileChange, FileInfo};
use http::Request;
use hyper::body::Incoming;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::condition::Condition;
use super::place::{Place, beneath};
use super::{Query, blocking, info, message, read, refuse};
use crate::agent::Agent;
use crate::folder::{self, Opened};
use crate::reply::{self, Refused, Reply};

/// What one call deletes at most; asked again it goes on.
const ENTRIES: usize = 1_000_000;
const TIME: Duration = Duration::from_secs(60);
/// Levels of folders; each holds a handle.
const DEPTH: usize = 4000;

/// Makes a folder, or renames.
pub(super) async fn change(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Reply, Refused> {
    Query::of(&request)?.finish()?;
    let wish: FileChange = message(request.into_body()).await?;
    let roots = agent.roots.clone();
    let turn = Arc::clone(&agent.files.turn).lock_owned().await;
    let info = blocking(move || {
        let info = match wish {
            FileChange::Mkdir { path, parents } => make(&Place::find(&roots, &path)?, parents),
            FileChange::Rename { path, to, replace } => {
                rename(&Place::find(&roots, &path)?, &Place::find(&roots, &to)?, replace)
            }
        };
        drop(turn);
        info
    });
    super::answer(&info.await?)
}

fn make(place: &Place, parents: bool) -> Result<FileInfo, Refused> {
    if parents {
        make_parents(place)?;
    }
    if !place.is_root() {
        let (parent, name) = place.parent()?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) if parents => {
                // Through a link it would be another folder than the one that was named.
                let stat = folder::stat(&parent, name).map_err(refuse::of)?;
                if folder::kind(&stat) != rustix::fs::FileType::Directory {
                    return Err(refuse::exists());
                }
            }
            Err(error) => return Err(refuse::of(error)),
        }
    } else if !parents {
        return Err(refuse::exists());
    }
    read::tell(place)
}

/// Makes the folders on the way to a path.
pub(super) fn make_parents(place: &Place) -> Result<(), Refused> {
    let (way, _) = place.split();
    for (at, _) in way.iter().enumerate().filter(|(_, byte)| **byte == b'/').chain([(way.len(), &0)]) {
        let step = way.get(..at).unwrap_or_default();
        let (folder, name) = match step.iter().rposition(|byte| *byte == b'/') {
            Some(cut) => (step.get(..cut).unwrap_or_default(), step.get(cut + 1..).unwrap_or_default()),
            None => (&b""[..], step),
        };
        if name.is_empty() {
            continue;
        }
        let folder = beneath(&place.root, folder, OFlags::PATH | OFlags::DIRECTORY).map_err(refuse::of)?;
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(refuse::of(error)),
        }
    }
    Ok(())
}

fn rename(from: &Place, to: &Place, replace: bool) -> Result<FileInfo, Refused> {
    if from.is_root() || to.is_root() {
        return Err(refuse::is_root());
    }
    if from.root_path() != to.root_path() {
        return Err(Refused::invalid("Something is renamed within one root; copy it and delete it instead."));
    }
    let ((old, name), (new, to_name)) = (from.parent()?, to.parent()?);
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(&old, name, &new, to_name, flags) {
        // A file system that cannot rename without replacing.
        Err(Errno::INVAL | Errno::NOSYS)
            if !replace
                && folder::stat(&old, name).is_ok()
                && matches!(folder::stat(&new, to_name), Err(Errno::NOENT)) =>
        {
            rustix::fs::renameat(&old, name, &new, to_name)
        }
        result => result,
    }
    .map_err(refuse::of)?;
    read::tell(to)
}

/// Deletes a name; a folder with content only where that was asked for.
pub(super) async fn delete(agent: &Arc<Agent>, request: &Request<Incoming>) -> Result<Reply, Refused> {
    let mut query = Query::of(request)?;
    let (path_text, recursive) = (query.path()?, query.flag("recursive")?);
    query.finish()?;
    let condition = Condition::read(request.headers())?;
    let roots = agent.roots.clone();
    let slot = agent.files.place().await?;
    let turn = Arc::clone(&agent.files.turn).lock_owned().await;
    blocking(move || {
        let place = Place::find(&roots, &path_text)?;
        if place.is_root() {
            return Err(refuse::is_root());
        }
        let (parent, name) = place.parent()?;
        let stat = folder::stat(&parent, name).map_err(refuse::of)?;
        let is_folder = folder::kind(&stat) == rustix::fs::FileType::Directory;
        let tag = info::etag(&stat);
        condition.check(Some(if is_folder { "" } else { &tag }))?;
        if !is_folder {
            return rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(refuse::of);
        }
        // A large folder takes its time; writers elsewhere need not wait for it.
        drop(turn);
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if recursive => {
                let mut budget = Budget { entries: ENTRIES, until: Instant::now() + TIME };
                empty(parent.as_fd(), name, &mut budget, 0)
            }
            result => result.map_err(refuse::of),
        }
    })
    .await?;
    drop(slot);
    Ok(reply::done())
}

struct Budget {
    entries: usize,
    until: Instant,
}

/// Removes a folder and everything in it, link by link and never through one.
fn empty(parent: BorrowedFd<'_>, name: &[u8], budget: &mut Budget, depth: usize) -> Result<(), Refused> {
    if depth > DEPTH {
        return Err(refuse::unfinished());
    }
    let mut opened = Opened::reading(parent, name, OFlags::DIRECTORY, 0o700).map_err(refuse::of_io)?;
    opened.forget_mode();
    let opened = &opened.file;
    for child in folder::names(opened).map_err(refuse::of_io)? {
        budget.entries = budget.entries.checked_sub(1).ok_or_else(refuse::unfinished)?;
        if Instant::now() > budget.until {
            return Err(refuse::unfinished());
        }
        match rustix::fs::unlinkat(opened, &child, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => empty(opened.as_fd(), &child, budget, depth + 1)?,
            Err(error) => return Err(refuse::of(error)),
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(refuse::of(error)),
    }
}
