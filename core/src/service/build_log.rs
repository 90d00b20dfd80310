//! Logs of builds: numbered pieces in the blob store, their index in the store.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::record::{Build, Event, LogChunk};
use burstflare_ports::store::{ChangeSet, Family, Put};
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use bytes::Bytes;
use serde_json::json;

use super::{Caller, ControlPlane};
use crate::domain::build as rules;
use crate::domain::permission::{Action, Relation};
use crate::error::Result;

/// The largest piece, in bytes.
const CHUNK: usize = 256 << 10;
/// A piece is stored at the latest after this time.
const FLUSH: Duration = Duration::from_millis(500);
/// The most that one attempt may log; what comes behind is dropped, with a line that says so.
const LIMIT: u64 = 32 << 20;
/// The most that one read answers.
const READ: usize = 1 << 20;
/// Pieces looked up at once.
const PAGE: usize = 20;

/// A part of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// The bytes from the asked offset on, at most 1 MiB.
    pub bytes: Bytes,
    /// Where to go on.
    pub next: u64,
    /// The attempt.
    pub attempt: u32,
    /// Whether nothing will follow.
    pub complete: bool,
}

impl ControlPlane {
    /// Reads a build's log from an offset on, of the given or the newest attempt.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn build_log(
        &self,
        caller: &Caller,
        reference: &str,
        attempt: Option<u32>,
        offset: u64,
    ) -> Result<LogPart> {
        caller.may(Action::Read, Relation::Own)?;
        let build = self.find_build(caller.workspace.id, reference).await?;
        let attempt = attempt.unwrap_or(build.attempt);
        let page = self.store().log_chunks(build.workspace, build.id, attempt, offset, PAGE).await?;
        let mut bytes = Vec::new();
        let mut next = offset;
        let mut rest = page.more;
        for chunk in page.items {
            if bytes.len() + CHUNK > READ {
                rest = true;
                break;
            }
            let (_, stream) = self.ports().blobs.get(&chunk.blob, None).await?;
            let piece = Body::Stream(stream).collect(CHUNK, "build log").await?;
            let skip = usize::try_from(next.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
            bytes.extend_from_slice(piece.get(skip..).unwrap_or_default());
            next = chunk.offset + chunk.size;
        }
        let over = attempt < build.attempt || !rules::is_active(build.state);
        Ok(LogPart { bytes: bytes.into(), next, attempt, complete: over && !rest })
    }
}

/// Writes one attempt's log. Dropping it loses at most the unstored last piece.
pub(super) struct LogWriter {
    plane: ControlPlane,
    build: Build,
    buffer: Vec<u8>,
    offset: u64,
    stored_at: Timestamp,
    full: bool,
}

impl LogWriter {
    /// Goes on behind what the attempt has logged so far.
    pub(super) async fn open(plane: &ControlPlane, build: &Build) -> Result<Self> {
        let mut offset = 0;
        loop {
            let page =
                plane.store().log_chunks(build.workspace, build.id, build.attempt, offset, 200).await?;
            offset = page.items.last().map_or(offset, |chunk| chunk.offset + chunk.size);
            if !page.more {
                break;
            }
        }
        Ok(Self {
            plane: plane.clone(),
            build: build.clone(),
            buffer: Vec::new(),
            offset,
            stored_at: plane.now(),
            full: false,
        })
    }

    pub(super) async fn line(&mut self, text: &str) -> Result<()> {
        self.write(format!("{text}\n").as_bytes()).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.full {
            return Ok(());
        }
        let mut bytes = bytes;
        if self.offset + (self.buffer.len() + bytes.len()) as u64 > LIMIT {
            self.full = true;
            bytes = b"\n[log limit of 32 MiB reached: the rest is not kept]\n";
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK / 4 || self.plane.now().since(self.stored_at) >= FLUSH || self.full {
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether something waits to be stored, and for how long it may.
    pub(super) fn due_in(&self) -> Option<Duration> {
        (!self.buffer.is_empty()).then(|| FLUSH.saturating_sub(self.plane.now().since(self.stored_at)))
    }

    pub(super) async fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.stored_at = self.plane.now();
        for piece in buffer.chunks(CHUNK) {
            self.store(piece).await?;
        }
        Ok(())
    }

    async fn store(&mut self, piece: &[u8]) -> Result<()> {
        let Build { workspace, id, attempt, .. } = self.build;
        // The id makes the name unique: after a crash another piece may begin at the same offset.
        let name: Id<Build> = self.plane.new_id(self.plane.now())?;
        let blob = super::version::blob_key(&format!("{workspace}/logs/{id}/{attempt}/{name}"))?;
        let body = Body::Full(Bytes::copy_from_slice(piece));
        self.plane.ports().blobs.put(&blob, body, CHUNK as u64).await?;
        let chunk =
            LogChunk { workspace, build: id, attempt, offset: self.offset, size: piece.len() as u64, blob };
        self.offset += chunk.size;
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        change.events.push(Event {
            kind: "build.log".to_owned(),
            subject: id.to_string(),
            data: json!({ "attempt": attempt, "size": self.offset }),
            at: self.plane.now(),
        });
        change.puts.push(Put::LogChunk(chunk));
        self.plane.commit(change).await.map_err(super::refusal)
    }
}
