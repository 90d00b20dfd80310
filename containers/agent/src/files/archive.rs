//! `GET` and `PUT /v1/archive`: a folder with everything in it.

use std::io::{self, Write as _};
use std::sync::Arc;

use burstflare_ports::wire::files::{ArchiveReceived, FileKind};
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use rustix::fs::{Mode, OFlags};

use super::place::Place;
use super::{Query, blocking, info, refuse, write};
use crate::activity::Reason;
use crate::agent::Agent;
use crate::archive;
use crate::body::{self, FlowWriter, release_memory};
use crate::reply::{self, Refused, Reply};

/// Answers the archive of a folder as it is made.
pub(super) async fn send(agent: &Arc<Agent>, request: &Request<Incoming>) -> Result<Reply, Refused> {
    let mut query = Query::of(request)?;
    let path_text = query.path()?;
    query.finish()?;
    let held = (agent.files.place().await?, agent.activity.hold(Reason::Files));
    let roots = agent.roots.clone();
    let folder = blocking(move || {
        let target = Place::find(&roots, &path_text)?.target()?;
        let stat = rustix::fs::fstat(&target).map_err(refuse::of)?;
        if info::kind(&stat) != FileKind::Folder {
            return Err(refuse::not_folder());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&target, ".", flags, Mode::empty()).map_err(refuse::of)
    })
    .await?;
    let (mut writer, flow) = FlowWriter::new(Bytes::clone);
    tokio::task::spawn_blocking(move || {
        let packed = archive::pack(&folder, &mut writer).and_then(|_| writer.flush());
        match packed {
            // No trailer: the archive has an end of its own.
            Ok(()) => {
                let _ = writer.finish(|_| Ok(Bytes::new()));
            }
            Err(problem) => {
                tracing::warn!(%problem, "a folder could not be packed");
                writer.fail(problem);
            }
        }
        release_memory();
        drop(held);
    });
    Ok(reply::flow("application/x-tar", flow))
}

/// Unpacks an archive into a folder, which is made where it is missing.
pub(super) async fn receive(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Reply, Refused> {
    let mut query = Query::of(&request)?;
    let path_text = query.path()?;
    query.finish()?;
    let held = agent.files.place().await?;
    let roots = agent.roots.clone();
    let unpacked = body::read_by(request.into_body(), move |archive| {
        let place = Place::find(&roots, &path_text)?;
        let (parent, name) = place.parent()?;
        if let Ok(stat) = crate::folder::stat(&parent, name)
            && info::kind(&stat) != FileKind::Folder
        {
            return Err(refuse::not_folder());
        }
        let staged = archive::stage(&place.root, &write::staging_name(), archive).map_err(damaged)?;
        staged.settle(&parent, name).map_err(refuse::of_io)
    })
    .await?;
    drop(held);
    reply::json(&ArchiveReceived {
        entries: unpacked.entries,
        bytes: unpacked.bytes,
        skipped: unpacked.skipped,
        why: unpacked.why,
    })
}

fn damaged(error: io::Error) -> Refused {
    match (error.raw_os_error(), error.kind()) {
        (Some(_), _) => refuse::of_io(error),
        (None, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => error.into(),
        _ => Refused::corrupt(format!("The archive is refused: {error}.")),
    }
}
