//! `GET /v1/files`: bytes of a file, content of a folder, or what is known of either.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::files::{FileInfo, FileKind, KIND_HEADER, MODE_HEADER, MTIME_HEADER};
use burstflare_ports::wire::path;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use rustix::fs::OFlags;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::condition::{Condition, Part, part};
use super::place::{Place, reopen};
use super::{Query, blocking, info, list, refuse};
use crate::activity::{Hold, Reason};
use crate::agent::Agent;
use crate::folder;
use crate::reply::{self, Refused, Reply};

const CHUNK: usize = 256 << 10;
/// Chunks on their way to the reader.
const IN_FLIGHT: usize = 2;
/// A reader that stands still for so long is gone.
const STILL: Duration = Duration::from_secs(120);

/// While bytes flow: a place among the transfers, and activity.
type Held = (OwnedSemaphorePermit, Hold);

enum Found {
    File(File, FileInfo),
    Folder(burstflare_ports::wire::files::FolderPage),
    Told(FileInfo),
}

/// See the module.
pub(super) async fn get(agent: &Arc<Agent>, request: &Request<Incoming>) -> Result<Reply, Refused> {
    let mut query = Query::of(request)?;
    let (path_text, stat) = (query.path()?, query.flag("stat")?);
    let (limit, after) = (query.number("limit")?, query.text("after"));
    query.finish()?;
    let after = after
        .map(|after| path::decode(&after).ok_or_else(|| Refused::invalid("`after` is malformed.")))
        .transpose()?;
    let condition = Condition::read(request.headers())?;
    let roots = agent.roots.clone();
    let place = agent.files.place().await?;
    let found = blocking(move || {
        let place = Place::find(&roots, &path_text)?;
        if stat { tell(&place).map(Found::Told) } else { open(&place, limit, after.as_deref()) }
    });
    match found.await? {
        Found::Told(info) => super::answer(&info),
        Found::Folder(page) => {
            let mut reply = reply::json(&page)?;
            describe(reply.headers_mut(), &page.folder)?;
            Ok(reply)
        }
        Found::File(file, info) => {
            let held = (place, agent.activity.hold(Reason::Files));
            send(file, &info, &condition, request.headers(), held)
        }
    }
}

/// What is known of the thing itself, a link included.
pub(super) fn tell(place: &Place) -> Result<FileInfo, Refused> {
    let (parent, name) = place.parent()?;
    let stat = folder::stat(&parent, name).map_err(refuse::of)?;
    Ok(info::info(place.text(), &stat, parent.as_fd(), name))
}

fn open(place: &Place, limit: Option<usize>, after: Option<&[u8]>) -> Result<Found, Refused> {
    let handle: OwnedFd = place.target()?;
    let stat = rustix::fs::fstat(&handle).map_err(refuse::of)?;
    match info::kind(&stat) {
        FileKind::Folder => list::page(place, &handle, limit, after).map(Found::Folder),
        FileKind::File => {
            let file = File::from(reopen(&handle, OFlags::RDONLY).map_err(refuse::of)?);
            let info = info::info(place.text(), &stat, handle.as_fd(), b"");
            Ok(Found::File(file, info))
        }
        FileKind::Link | FileKind::Other => Err(refuse::not_file()),
    }
}

/// Puts what is known into headers.
pub(super) fn describe(headers: &mut HeaderMap, info: &FileInfo) -> Result<(), Refused> {
    let mut set = |name: HeaderName, text: &str| {
        let value = HeaderValue::from_str(text).map_err(|error| Refused::internal(error.to_string()))?;
        headers.insert(name, value);
        Ok::<_, Refused>(())
    };
    set(HeaderName::from_static(KIND_HEADER), info.kind.word())?;
    set(HeaderName::from_static(MODE_HEADER), &format!("{:o}", info.mode))?;
    set(HeaderName::from_static(MTIME_HEADER), &info.mtime_ns.to_string())?;
    if let Some(etag) = &info.etag {
        set(ETAG, etag)?;
    }
    Ok(())
}

fn send(
    file: File,
    info: &FileInfo,
    condition: &Condition,
    headers: &HeaderMap,
    held: Held,
) -> Result<Reply, Refused> {
    let etag = info.etag.clone().unwrap_or_default();
    if condition.forbids_reading(&etag) {
        return Err(refuse::changed());
    }
    if condition.is_known(&etag) {
        let mut reply = reply::done();
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        describe(reply.headers_mut(), info)?;
        return Ok(reply);
    }
    let (status, first, length) = match part(headers, info.size, &etag) {
        Part::Whole => (StatusCode::OK, 0, info.size),
        Part::Bytes(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Part::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let mut reply = if length == 0 {
        reply::done()
    } else {
        let (sender, flow) = mpsc::channel(IN_FLIGHT);
        tokio::spawn(pump(file, first, length, sender, held));
        reply::flow("application/octet-stream", flow)
    };
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    describe(headers, info)?;
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let range = match status {
        StatusCode::PARTIAL_CONTENT => Some(format!("bytes {first}-{}/{}", first + length - 1, info.size)),
        StatusCode::RANGE_NOT_SATISFIABLE => Some(format!("bytes */{}", info.size)),
        _ => None,
    };
    if let Some(range) = range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    Ok(reply)
}

/// Reads ahead by a few chunks and waits while the reader does. A file that shrinks meanwhile breaks the answer off;
/// what it grows by is not part of it. Ends when the reader goes away.
async fn pump(file: File, first: u64, length: u64, sender: mpsc::Sender<std::io::Result<Bytes>>, held: Held) {
    let file = Arc::new(file);
    let (mut at, end) = (first, first + length);
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(CHUNK);
        let source = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = BytesMut::zeroed(wanted);
            source.read_exact_at(&mut chunk, at).map(|()| chunk.freeze())
        });
        let chunk = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let failed = chunk.is_err();
        match tokio::time::timeout(STILL, sender.send(chunk)).await {
            Ok(Ok(())) if !failed => at += wanted as u64,
            _ => break,
        }
    }
    drop(held);
    if length > (8 << 20) {
        crate::body::release_memory();
    }
}
