//! Format 2: which chunks of a machine are stored already, and storing the others in packs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{Pack, PackState, Session, SnapshotPack};
use burstflare_ports::store::{ChangeSet, CommitError, Guard, Key, PAGE_LIMIT, Put};
use burstflare_ports::stream::{Body, ByteStream};
use burstflare_ports::wire::snapshot::manifest::{self, Header, Part};
use burstflare_ports::wire::snapshot::{self as wire, Hash, Have, Index, Missing, Packed, Scanned};
use bytes::Bytes;
use futures_util::future::join;
use futures_util::stream;

use super::agent_snapshot::{Item, Packs, corrupt};
use super::snapshot_sweep::{index_blob, pack_blob};
use super::snapshot_take::{Attempt, Stored, unexpected};
use super::{ControlPlane, into_port};
use crate::domain::plan::Plan;
use crate::domain::snapshot as rules;

/// Packs whose indexes are looked into, the newest of the lineage.
const LOOKED_INTO: usize = 512;
/// Packs leased in one commit: each has a guard, and so has the attempt.
const LEASED: usize = 14;

/// What was read of a manifest on its way to its blob.
#[derive(Default)]
struct Read {
    packs: Vec<wire::Pack>,
    whole: Option<(Header, Packed)>,
}

impl ControlPlane {
    /// Stores what of the machine's files is not stored yet, and the manifest. When this answers, every pack that the
    /// manifest names is live, named by the snapshot, and of the length that the manifest's chunks lie in.
    pub(super) async fn store_packs(
        &self,
        session: &Session,
        target: &AgentTarget,
        attempt: &Attempt,
        plan: &Plan,
    ) -> PortResult<Stored> {
        let (missing, scanned) = self.scan(session, target, attempt).await?;
        let have = self.look_up(session, attempt, missing).await?;
        let mut records = Vec::with_capacity(have.len() * Have::SIZE);
        for found in &have {
            found.encode(&mut records);
        }
        let mut packs = self.agent_packs(target, &scanned.scan, records.into()).await?;
        let (first, stored_now) = self.store_new(session, attempt, &mut packs, plan.snapshot).await?;
        let (summary, bytes, named) = self.store_manifest(attempt, packs, first).await?;
        let (count, packed) = self.settle(attempt, &named).await?;
        Ok(Stored { summary, bytes, packs: count, packed, is_new: stored_now > 0 })
    }

    /// Scans on top of the parent. A parent whose manifest is damaged costs its use, and not the snapshot.
    async fn scan(
        &self,
        session: &Session,
        target: &AgentTarget,
        attempt: &Attempt,
    ) -> PortResult<(Vec<Missing>, Scanned)> {
        let disk = format!("{}.{}", session.id, session.disk);
        if let Some(parent) = &attempt.parent {
            let scanned = match self.ports().blobs.get(&parent.blob, None).await {
                Ok((_, manifest)) => self.agent_scan(target, &disk, Some(manifest)).await,
                Err(error) => Err(error),
            };
            match scanned {
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    tracing::warn!(snapshot = %parent.id, ?error, "its manifest is of no use: everything is read");
                }
                other => return other,
            }
        }
        self.agent_scan(target, &disk, None).await
    }

    /// Finds missing chunks in packs of the lineage and leases those packs, reviving condemned ones.
    async fn look_up(
        &self,
        session: &Session,
        attempt: &Attempt,
        missing: Vec<Missing>,
    ) -> PortResult<Vec<Have>> {
        let mut missing: HashMap<Hash, u32> = missing.into_iter().map(|it| (it.hash, it.plain)).collect();
        let mut have = Vec::new();
        let (mut after, mut looked) = (None, 0);
        let mut named = HashSet::new();
        if !missing.is_empty() {
            named = self.named_packs(attempt).await?;
        }
        while !missing.is_empty() && looked < LOOKED_INTO {
            let page = self.store().packs_in(session.workspace, session.lineage, after, PAGE_LIMIT).await?;
            after = page.items.last().map(|pack| pack.id);
            let mut useful = Vec::new();
            for pack in page.items {
                // Small packs are what a snapshot without a parent may be there to be rid of.
                let is_small = attempt.parent.is_none() && pack.bytes < rules::SMALL_PACK;
                if pack.state == PackState::Storing || (is_small && !named.contains(&pack.id)) {
                    continue;
                }
                looked += 1;
                let found = self.chunks_in(&pack, &mut missing).await;
                if !found.is_empty() {
                    useful.push((pack, found));
                }
            }
            let (ours, others): (Vec<_>, Vec<_>) =
                useful.into_iter().partition(|(pack, _)| named.contains(&pack.id));
            have.extend(ours.into_iter().flat_map(|(_, found)| found));
            for group in others.chunks(LEASED) {
                if self.lease(attempt, group.iter().map(|(pack, _)| pack)).await? {
                    have.extend(group.iter().flat_map(|(_, found)| found));
                }
            }
            if !page.more {
                break;
            }
        }
        Ok(have)
    }

    async fn named_packs(&self, attempt: &Attempt) -> PortResult<HashSet<Id<Pack>>> {
        let mut named = HashSet::new();
        let mut after = None;
        loop {
            let record = &attempt.record;
            let page = self.store().packs_of(record.workspace, record.id, after, PAGE_LIMIT).await?;
            after = page.items.last().map(|pack| pack.id);
            named.extend(page.items.iter().map(|pack| pack.id));
            if !page.more {
                return Ok(named);
            }
        }
    }

    /// Takes out of `missing` what lies in a pack. An index that cannot be read holds nothing: its chunks are sent again.
    async fn chunks_in(&self, pack: &Pack, missing: &mut HashMap<Hash, u32>) -> Vec<Have> {
        let index = match self.read_index(pack).await {
            Ok(index) => index,
            Err(error) => {
                // One that was condemned while it was being stored has none.
                if pack.state == PackState::Live {
                    tracing::warn!(pack = %pack.id, ?error, "its index is of no use");
                }
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for chunk in index.chunks {
            if missing.get(&chunk.hash) == Some(&chunk.plain) {
                missing.remove(&chunk.hash);
                let (offset, stored, plain) = (chunk.offset, chunk.stored, chunk.plain);
                found.push(Have { hash: chunk.hash, pack: index.pack, offset, stored, plain });
            }
        }
        found
    }

    async fn read_index(&self, pack: &Pack) -> PortResult<Index> {
        let (_, flow) = self.ports().blobs.get(&index_blob(pack.workspace, pack.id)?, None).await?;
        let bytes = Body::Stream(flow).collect(Index::LIMIT, "pack.index").await?;
        let index = Index::decode(&bytes).map_err(corrupt)?;
        if index.pack.hash.to_string() != pack.hash || u64::from(index.pack.length) != pack.bytes {
            return Err(PortError::new(ErrorKind::Corrupt, "pack.index", "it is another pack's"));
        }
        Ok(index)
    }

    /// "I have it": the snapshot names these packs, and condemned ones live again. False where one of them was
    /// condemned or removed in the same moment: then none is leased, and their chunks are sent again.
    async fn lease<'p>(
        &self,
        attempt: &Attempt,
        packs: impl Iterator<Item = &'p Pack> + Send,
    ) -> PortResult<bool> {
        let mut change = attempt.change();
        for pack in packs {
            change.guards.push(Guard::Revision(Key::Pack(pack.id), pack.revision));
            if pack.state == PackState::Condemned {
                change.puts.push(Put::Pack(Pack {
                    state: PackState::Live,
                    condemned_at: None,
                    revision: pack.revision + 1,
                    ..pack.clone()
                }));
            }
            change.puts.push(naming(attempt, pack.id));
        }
        match self.commit(change).await {
            Ok(()) => Ok(true),
            Err(CommitError::Refused(Guard::Revision(Key::Pack(_), _))) => Ok(false),
            Err(error) => Err(unexpected(error)),
        }
    }

    /// Stores packs as they come, one while the next is on its way; answers the first bytes of the manifest and how many
    /// packs there were.
    async fn store_new(
        &self,
        session: &Session,
        attempt: &Attempt,
        packs: &mut Packs,
        limit: u64,
    ) -> PortResult<(Bytes, u64)> {
        let (mut waiting, mut stored, mut count, mut total) = (None, None, 0, 0);
        loop {
            let next = match waiting.take() {
                Some(arrived) => {
                    let store = self.store_pack(session, attempt, stored.take(), arrived);
                    let (done, next) = join(store, packs.next()).await;
                    stored = Some(done?);
                    next
                }
                None => packs.next().await,
            };
            if !matches!(next, Ok(Some(Item::Pack { .. })))
                && let Some(last) = stored.take()
            {
                // It is there for the next attempt, too, where this one ends here.
                let mut change = attempt.change();
                live(&mut change, last);
                self.commit(change).await.map_err(unexpected)?;
            }
            match next? {
                Some(Item::Pack { pack, bytes, index }) => {
                    count += 1;
                    total += u64::from(pack.length);
                    if total > limit {
                        let what = format!("over {limit} bytes in packs");
                        return Err(PortError::new(ErrorKind::TooLarge, "snapshot.take", what));
                    }
                    waiting = Some((pack, bytes, index));
                }
                Some(Item::Manifest(first)) => return Ok((first, count)),
                None => {
                    return Err(PortError::new(ErrorKind::Corrupt, "snapshot.take", "there is no manifest"));
                }
            }
        }
    }

    /// The record first, so that no blob is ever without one, in one commit with the word that the pack before is stored;
    /// then the blobs. Answers the record, which is live by the next such commit.
    async fn store_pack(
        &self,
        session: &Session,
        attempt: &Attempt,
        before: Option<Pack>,
        (pack, bytes, index): (wire::Pack, Bytes, Bytes),
    ) -> PortResult<Pack> {
        let now = self.now();
        let id: Id<Pack> = self.new_id(now).map_err(into_port)?;
        let storing = Pack {
            id,
            workspace: session.workspace,
            lineage: session.lineage,
            hash: pack.hash.to_string(),
            bytes: u64::from(pack.length),
            state: PackState::Storing,
            condemned_at: None,
            created_at: now,
            revision: 1,
        };
        let mut change = attempt.change();
        if let Some(before) = before {
            live(&mut change, before);
        }
        change.guards.push(Guard::Absent(Key::Pack(id)));
        change.puts.extend([Put::Pack(storing.clone()), naming(attempt, id)]);
        self.commit(change).await.map_err(unexpected)?;
        let blobs = &self.ports().blobs;
        let (length, index_length) = (u64::from(pack.length), index.len() as u64);
        let info = blobs.put(&pack_blob(session.workspace, id)?, Body::Full(bytes), length).await?;
        if info.blake3 != storing.hash {
            let what = format!("the pack {} was not stored as it was sent", pack.hash);
            return Err(PortError::new(ErrorKind::Corrupt, "snapshot.take", what));
        }
        blobs.put(&index_blob(session.workspace, id)?, Body::Full(index), index_length).await?;
        Ok(storing)
    }

    /// Stores the manifest while reading its tables; answers the tree's summary, the manifest's length and the packs it
    /// names.
    async fn store_manifest(
        &self,
        attempt: &Attempt,
        packs: Packs,
        first: Bytes,
    ) -> PortResult<(burstflare_ports::wire::tree::Summary, u64, Vec<wire::Pack>)> {
        let read = Arc::new(Mutex::new(Read::default()));
        let flow = manifest_flow(packs, first, Arc::clone(&read));
        let info = self.ports().blobs.put(&attempt.record.blob, Body::Stream(flow), manifest::LIMIT).await?;
        let read = std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner));
        let wrong = |what: &str| PortError::new(ErrorKind::Corrupt, "snapshot.take", what);
        let (header, packed) = read.whole.ok_or_else(|| wrong("the manifest came without its end"))?;
        if packed.summary.archive_blake3.as_deref() != Some(info.blake3.as_str()) {
            return Err(wrong("the manifest was not stored as it was sent"));
        }
        let summary = header.summary();
        if (&summary.digest, summary.files, summary.bytes)
            != (&packed.summary.digest, packed.summary.files, packed.summary.bytes)
        {
            return Err(wrong("the manifest is of another tree than was said"));
        }
        Ok((summary, info.size, read.packs))
    }

    /// Checks that the snapshot names every pack of its manifest, and lets it name no other. Answers how many there are and
    /// their bytes.
    async fn settle(&self, attempt: &Attempt, named: &[wire::Pack]) -> PortResult<(u64, u64)> {
        let mut wanted: HashMap<String, u64> =
            named.iter().map(|pack| (pack.hash.to_string(), u64::from(pack.length))).collect();
        let (record, mut after) = (&attempt.record, None);
        let mut packed = 0;
        loop {
            let page = self.store().packs_of(record.workspace, record.id, after, PAGE_LIMIT).await?;
            after = page.items.last().map(|pack| pack.id);
            let mut change = attempt.change();
            for pack in page.items {
                let is_wanted = pack.state == PackState::Live && wanted.get(&pack.hash) == Some(&pack.bytes);
                if is_wanted {
                    wanted.remove(&pack.hash);
                    packed += pack.bytes;
                } else {
                    change.deletes.push(Key::SnapshotPack(record.id, pack.id));
                }
            }
            if !change.deletes.is_empty() {
                self.commit(change).await.map_err(unexpected)?;
            }
            if !page.more {
                break;
            }
        }
        match wanted.keys().next() {
            None => Ok((named.len() as u64, packed)),
            Some(hash) => {
                let what = format!("the manifest names the pack {hash}, which is not stored");
                Err(PortError::new(ErrorKind::Corrupt, "snapshot.take", what))
            }
        }
    }
}

/// Adds that a pack's blobs are stored, where nobody condemned it meanwhile.
fn live(change: &mut ChangeSet, stored: Pack) {
    change.guards.push(Guard::Revision(Key::Pack(stored.id), stored.revision));
    change.puts.push(Put::Pack(Pack { state: PackState::Live, revision: stored.revision + 1, ..stored }));
}

fn naming(attempt: &Attempt, pack: Id<Pack>) -> Put {
    let (workspace, snapshot) = (attempt.record.workspace, attempt.record.id);
    Put::SnapshotPack(SnapshotPack { workspace, snapshot, pack })
}

/// The manifest as a flow into its blob, read on the way. It ends in an error where the manifest is damaged, so that no
/// blob comes of it.
fn manifest_flow(packs: Packs, first: Bytes, read: Arc<Mutex<Read>>) -> ByteStream {
    let state = (packs, Some(first), Some(manifest::Decoder::default()), read);
    Box::pin(stream::try_unfold(state, |(mut packs, first, mut decoder, read)| async move {
        let next = match first {
            Some(first) => Some(Item::Manifest(first)),
            None => packs.next().await?,
        };
        match (next, decoder.as_mut()) {
            (Some(Item::Manifest(bytes)), Some(reader)) => {
                for part in reader.push(&bytes).map_err(corrupt)? {
                    if let Part::Packs(more) = part {
                        read.lock().unwrap_or_else(PoisonError::into_inner).packs.extend(more);
                    }
                }
                Ok(Some((bytes, (packs, None, decoder, read))))
            }
            (None, Some(_)) => {
                let header = match decoder.take() {
                    Some(reader) => reader.finish().map_err(corrupt)?,
                    None => return Ok(None),
                };
                let trailer: Packed = packs.trailer()?;
                read.lock().unwrap_or_else(PoisonError::into_inner).whole = Some((header, trailer));
                Ok(None)
            }
            _ => Err(PortError::new(ErrorKind::Corrupt, "snapshot.take", "a pack behind the manifest")),
        }
    }))
}
