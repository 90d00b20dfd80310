//! Restoring: the wish, and the way of the bytes back into a machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{Pack, Session, Snapshot, SnapshotState};
use burstflare_ports::store::{ChangeSet, Family, Guard, Key, PAGE_LIMIT, Put};
use burstflare_ports::stream::ByteStream;
use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::manifest::{Decoder, Part};
use burstflare_ports::wire::snapshot::{self as wire, FORMAT as PACKED, stream as parts};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::agent_snapshot::corrupt;
use super::read_ahead::{Pieces, ReadAhead};
use super::snapshot::event;
use super::snapshot_sweep::pack_blob;
use super::{Caller, ControlPlane, into_port};
use crate::domain::permission::Action;
use crate::domain::session::{self as rules, NotRestored};
use crate::error::{Error, Result};

impl ControlPlane {
    /// Wants a session's files to be those of one of its snapshots. A running session is snapshotted and ended first; then it
    /// starts on a new disk, which takes the old one's place once it is verified.
    ///
    /// # Errors
    /// `NotFound`, `snapshot_not_complete`, `unsaved_changes` unless they may be `discard`ed, `session_deleting`,
    /// `quota_exceeded`.
    pub async fn restore_snapshot(&self, caller: &Caller, reference: &str, discard: bool) -> Result<Session> {
        self.commit_decided(|| async move {
            let (snapshot, session) = self.own_snapshot(caller, reference, Action::SessionControl).await?;
            if snapshot.state != SnapshotState::Complete {
                return Err(not_complete());
            }
            let step = rules::restore(&session, snapshot.id, discard, self.now()).map_err(refused)?;
            // It is on its way there already.
            if !step.changed {
                return Ok((None, session));
            }
            let step = self.with_key(&session, step)?;
            let mut change = self.session_change(&session, &step, caller.plan().running);
            // It does not go while it is wanted.
            change.guards.push(Guard::Revision(Key::Snapshot(snapshot.id), snapshot.revision));
            change.audit.push(caller.audit(
                self,
                "snapshot.restore",
                snapshot.id,
                json!({ "session": session.id, "from": session.state, "discard": discard }),
            ));
            Ok((Some(change), step.next))
        })
        .await
    }

    /// Makes a machine's roots the tree of a snapshot of its session, verified.
    pub(super) async fn restore(
        &self,
        session: &Session,
        target: &AgentTarget,
        id: Id<Snapshot>,
    ) -> PortResult<()> {
        let lost = |what: &str| PortError::new(ErrorKind::Corrupt, "session.restore", what);
        let snapshot = self.store().snapshot(session.workspace, id).await?;
        let snapshot = snapshot.filter(|found| found.session == session.id);
        let snapshot = snapshot.ok_or_else(|| lost("its snapshot is gone"))?;
        let gone = |error: PortError| match error.kind() {
            ErrorKind::NotFound => lost("what the snapshot is made of is gone").with_source(error),
            _ => error,
        };
        let restored = if snapshot.format == PACKED {
            let flow = self.packs_of_snapshot(&snapshot).await.map_err(gone)?;
            self.agent_restore_packs(target, flow).await.map_err(gone)?
        } else {
            let (_, archive) = self.ports().blobs.get(&snapshot.blob, None).await.map_err(gone)?;
            self.agent_restore(target, archive).await?
        };
        if restored.digest != snapshot.digest || restored.files != snapshot.files {
            return Err(lost("what came back is not what was stored"));
        }
        self.note_verified(&snapshot).await
    }

    async fn note_verified(&self, verified: &Snapshot) -> PortResult<()> {
        self.commit_decided(|| async move {
            // Given a label in the same moment, say: what was found out holds all the same.
            let Some(snapshot) = self.store().snapshot(verified.workspace, verified.id).await? else {
                return Ok((None, ()));
            };
            let mut change = ChangeSet::new(Family::Workspace(snapshot.workspace));
            change.guards.push(Guard::Revision(Key::Snapshot(snapshot.id), snapshot.revision));
            change.events.push(event("restored", &snapshot, self.now()));
            change.audit.push(self.system_audit(
                snapshot.workspace,
                "snapshot.restored",
                snapshot.id,
                json!({ "session": snapshot.session, "digest": snapshot.digest }),
            ));
            change.puts.push(Put::Snapshot(Snapshot {
                verified_at: Some(self.now()),
                revision: snapshot.revision + 1,
                ..snapshot
            }));
            Ok((Some(change), ()))
        })
        .await
        .map_err(into_port)
    }

    /// The manifest and then, in its order, the packs it names, as the agent takes them. The next packs are read
    /// while one is on its way, as many as [`ReadAhead`] holds.
    async fn packs_of_snapshot(&self, snapshot: &Snapshot) -> PortResult<ByteStream> {
        let mut places: HashMap<String, Id<Pack>> = HashMap::new();
        let mut after = None;
        loop {
            let page = self.store().packs_of(snapshot.workspace, snapshot.id, after, PAGE_LIMIT).await?;
            after = page.items.last().map(|pack| pack.id);
            places.extend(page.items.into_iter().map(|pack| (pack.hash, pack.id)));
            if !page.more {
                break;
            }
        }
        let (_, manifest) = self.ports().blobs.get(&snapshot.blob, None).await?;
        let read = Arc::new(Mutex::new((Decoder::default(), Vec::new())));
        let reading = Arc::clone(&read);
        let manifest = manifest.map(move |bytes| {
            let bytes = bytes?;
            let mut read = reading.lock().unwrap_or_else(PoisonError::into_inner);
            let (decoder, packs) = &mut *read;
            for part in decoder.push(&bytes).map_err(corrupt)? {
                if let Part::Packs(more) = part {
                    packs.extend(more);
                }
            }
            Ok(parts::manifest(&bytes))
        });
        let plane = self.clone();
        let workspace = snapshot.workspace;
        let packs = stream::once(async move {
            let (decoder, packs) = std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner));
            decoder.finish().map_err(corrupt)?;
            let fetch = move |pack: wire::Pack| {
                let (plane, place) = (plane.clone(), places.get(&pack.hash.to_string()).copied());
                async move { plane.pack_pieces(workspace, pack, place).await }.boxed()
            };
            Ok::<_, PortError>(ReadAhead::new(packs, fetch))
        });
        let end = stream::once(async { Ok(frame::encode_trailer(b"{}")) });
        Ok(Box::pin(manifest.chain(packs.try_flatten()).chain(end)))
    }

    /// A pack as the agent takes it, whole.
    async fn pack_pieces(
        &self,
        workspace: Id<burstflare_ports::record::Workspace>,
        pack: wire::Pack,
        place: Option<Id<Pack>>,
    ) -> PortResult<Pieces> {
        let missing = || PortError::new(ErrorKind::NotFound, "session.restore", "a pack has no place");
        let blob = pack_blob(workspace, place.ok_or_else(missing)?)?;
        let (_, mut bytes) = self.ports().blobs.get(&blob, None).await?;
        let (mut pieces, mut length) = (Pieces::from([parts::begin(&pack)]), 0);
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            length += piece.len() as u64;
            if length > u64::from(pack.length) {
                return Err(PortError::new(ErrorKind::Corrupt, "session.restore", "a pack is too long"));
            }
            pieces.push_back(parts::bytes(&piece));
        }
        pieces.push_back(parts::end(&[]));
        Ok(pieces)
    }

    /// A transition with a fresh agent key, where a new life begins.
    fn with_key(&self, session: &Session, mut step: rules::Transition) -> Result<rules::Transition> {
        if step.next.epoch != session.epoch {
            step.next.keys.agent = self.fresh_key(session, step.next.epoch)?;
        }
        Ok(step)
    }
}

pub(super) fn not_complete() -> Error {
    Error::conflict(
        "snapshot_not_complete",
        "Only a complete snapshot can be used.",
        "Choose another one: `flare snapshot list`.",
    )
}

fn refused(why: NotRestored) -> Error {
    match why {
        NotRestored::Unsaved => Error::conflict(
            "unsaved_changes",
            "The session's disk holds changes that no snapshot shows; restoring would lose them.",
            "Start it and stop it to save them, or restore with `--discard`.",
        ),
        NotRestored::Illegal(illegal) => Error::conflict(
            "session_deleting",
            format!("The session is {:?}.", illegal.from).to_lowercase(),
            "Make a new one with `flare session up`.",
        ),
    }
}
