//! Calls to a machine's agent about snapshots of format 2.

use std::collections::VecDeque;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::stream::{Body, ByteStream};
use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::stream::{Decoder, Order, Part};
use burstflare_ports::wire::snapshot::{Missing, Pack, Scanned, SnapshotError};
use burstflare_ports::wire::tree::Summary;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::Method;
use serde::de::DeserializeOwned;

use super::ControlPlane;
use super::agent::{LONG, call, checked};

/// Hashes of missing chunks that are looked up; a scan that lacks more gets the rest sent again.
const LOOKED_UP: usize = 1 << 18;

/// What comes next of packs and manifest.
pub(super) enum Item {
    /// A pack, whole and of the hash that it was announced with, and its index.
    Pack { pack: Pack, bytes: Bytes, index: Bytes },
    /// Bytes of the manifest.
    Manifest(Bytes),
}

impl ControlPlane {
    /// Scans the roots against a parent's manifest; answers the chunks it lacks (at most [`LOOKED_UP`] of them) and the
    /// summary.
    pub(super) async fn agent_scan(
        &self,
        target: &AgentTarget,
        disk: &str,
        parent: Option<ByteStream>,
    ) -> PortResult<(Vec<Missing>, Scanned)> {
        let body = parent.map_or_else(Body::empty, Body::Stream);
        // The name of a disk is an id and a number: nothing in it needs encoding.
        let request = call(Method::POST, &format!("/v1/snapshots/scan?disk={disk}"), body)?;
        let response = checked(self.ports().agents.send(target, request, LONG).await?).await?;
        let mut flow = response.into_body().into_stream();
        let mut decoder = frame::Decoder::default();
        let mut missing = Vec::new();
        while let Some(bytes) = flow.next().await {
            for chunk in decoder.push(&bytes?).map_err(|error| broken(&error))? {
                let mut records = Missing::decode_all(&chunk).map_err(corrupt)?;
                records.truncate(LOOKED_UP.saturating_sub(missing.len()));
                missing.append(&mut records);
            }
        }
        let trailer = decoder.finish().map_err(|error| broken(&error))?;
        Ok((missing, json(&trailer)?))
    }

    /// Fetches what a scan found, without what is there already (records of `Have`).
    pub(super) async fn agent_packs(
        &self,
        target: &AgentTarget,
        scan: &str,
        have: Bytes,
    ) -> PortResult<Packs> {
        if scan.is_empty() || scan.len() > 64 || !scan.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(PortError::new(ErrorKind::Corrupt, "agent.scan", "a scan without a proper name"));
        }
        let request = call(Method::POST, &format!("/v1/snapshots/packs?scan={scan}"), Body::Full(have))?;
        let response = checked(self.ports().agents.send(target, request, LONG).await?).await?;
        Ok(Packs {
            flow: response.into_body().into_stream(),
            decoder: Some(Decoder::new(Order::PacksFirst)),
            parts: VecDeque::new(),
            trailer: None,
        })
    }

    /// Makes the roots exactly the tree of a manifest, verified.
    pub(super) async fn agent_restore_packs(
        &self,
        target: &AgentTarget,
        flow: ByteStream,
    ) -> PortResult<Summary> {
        let request = call(Method::PUT, "/v1/snapshots", Body::Stream(flow))?;
        self.agent_json(target, request, LONG).await
    }
}

/// Packs and manifest on their way. Holds one pack at most; what is not asked for stays with the machine.
pub(super) struct Packs {
    flow: ByteStream,
    decoder: Option<Decoder>,
    parts: VecDeque<Part>,
    trailer: Option<Bytes>,
}

impl Packs {
    /// The next item; `None` once the stream has ended well.
    pub(super) async fn next(&mut self) -> PortResult<Option<Item>> {
        let mut bytes = BytesMut::new();
        loop {
            match self.part().await? {
                None => return Ok(None),
                Some(Part::PackBegin(pack)) => bytes.reserve(pack.length as usize),
                Some(Part::PackBytes(more)) => bytes.extend_from_slice(&more),
                Some(Part::PackEnd { pack, index }) => {
                    return Ok(Some(Item::Pack { pack, bytes: bytes.freeze(), index }));
                }
                Some(Part::Manifest(more)) => return Ok(Some(Item::Manifest(more))),
            }
        }
    }

    async fn part(&mut self) -> PortResult<Option<Part>> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Ok(Some(part));
            }
            let Some(decoder) = self.decoder.as_mut() else { return Ok(None) };
            if let Some(bytes) = self.flow.next().await {
                self.parts.extend(decoder.push(&bytes?).map_err(corrupt)?);
            } else if let Some(decoder) = self.decoder.take() {
                // Damage was found before: what is left is a machine that ended in the middle, and that passes.
                let cut_off = |error: SnapshotError| {
                    PortError::new(ErrorKind::Unavailable, "agent.packs", error.to_string())
                };
                self.trailer = Some(decoder.finish().map_err(cut_off)?);
            }
        }
    }

    /// The trailer, behind the last item.
    pub(super) fn trailer<T: DeserializeOwned>(&self) -> PortResult<T> {
        let missing = || PortError::new(ErrorKind::Corrupt, "agent.packs", "the stream ends in the middle");
        json(self.trailer.as_ref().ok_or_else(missing)?)
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> PortResult<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        PortError::new(ErrorKind::Corrupt, "agent", "an answer that is not understood").with_source(error)
    })
}

/// A machine that ends in the middle cuts its stream off: that passes. Anything else out of order does not.
fn broken(error: &frame::FrameError) -> PortError {
    let kind = match error {
        frame::FrameError::Truncated => ErrorKind::Unavailable,
        _ => ErrorKind::Corrupt,
    };
    PortError::new(kind, "agent.scan", error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
pub(super) fn corrupt(error: SnapshotError) -> PortError {
    let kind = match error {
        SnapshotError::Corrupt(_) => ErrorKind::Corrupt,
        SnapshotError::Unsupported(_) => ErrorKind::Unsupported,
    };
    PortError::new(kind, "snapshot", error.to_string())
}
