//! `GET` and `PUT /v1/tree`: all roots as one archive in the format of `burstflare_ports::wire::tree`, and back.

mod capture;
mod member;
mod meter;
mod restore;

use std::io;
use std::sync::Arc;

use burstflare_ports::wire::frame;
use hyper::body::Incoming;

pub(crate) use self::member::{Member, end, padding};
pub(crate) use self::meter::{Budget, HEADERS, Meter};
pub(crate) use self::restore::copy;
#[cfg(feature = "fuzzing")]
pub(crate) use self::{capture::capture as capture_roots, restore::restore as restore_roots};
use crate::agent::Agent;
use crate::body::{self, FlowWriter, release_memory};
use crate::reply::{self, Refused, Reply};
use crate::snapshot::swap;

/// Answers the archive as it is made.
pub(crate) async fn send(agent: &Arc<Agent>) -> Result<Reply, Refused> {
    let turn = Arc::clone(&agent.roots_in_use).lock_owned().await;
    let roots = agent.roots.clone();
    let (mut writer, flow) = FlowWriter::new(frame::encode);
    tokio::task::spawn_blocking(move || {
        match swap::recover(&roots).and_then(|()| capture::capture(&roots, &mut writer)) {
            Ok(mut summary) => {
                let sent = writer.finish(|archive| {
                    summary.archive_blake3 = Some(archive.to_hex().to_string());
                    Ok(frame::encode_trailer(&serde_json::to_vec(&summary)?))
                });
                if let Err(problem) = sent {
                    tracing::info!(%problem, "a capture was not wanted to its end");
                }
            }
            Err(problem) => {
                tracing::warn!(%problem, "a capture failed");
                writer.fail(problem);
            }
        }
        drop(turn);
        release_memory();
    });
    Ok(reply::flow("application/vnd.burstflare.tree", flow))
}

/// Makes the roots exactly the archive's tree.
pub(crate) async fn receive(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let turn = Arc::clone(&agent.roots_in_use).lock_owned().await;
    let roots = agent.roots.clone();
    let summary = body::read_by(body, move |archive| {
        swap::recover(&roots)?;
        let result = restore::restore(&roots, archive);
        // Held until the work is done, even if the caller has gone.
        drop(turn);
        result
    })
    .await?;
    reply::json(&summary)
}

/// An archive's name for a root, and for what is below it.
pub(crate) fn member_name(root: &str) -> &[u8] {
    root.trim_start_matches('/').as_bytes()
}

/// Reads everything and throws it away.
fn drain(mut reader: impl io::Read) -> io::Result<u64> {
    io::copy(&mut reader, &mut io::sink())
}
