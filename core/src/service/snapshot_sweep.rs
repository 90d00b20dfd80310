//! The sweep: packs that no snapshot names are condemned, and go when that stays so; blobs of snapshots go with the
//! last record that names them. Every step is guarded, so it may run beside anything, and twice at once.

use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Effect, Pack, PackState, Session, Workspace};
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, Put};

use super::{ControlPlane, into_port};
use crate::domain::snapshot::{self as rules, Sweep};

/// Packs decided over in one commit: each has a guard of its own, and all share one more.
const TOGETHER: usize = 15;
/// Packs looked at in one round.
const PAGE: usize = 90;
/// Rounds of one delivery; what is left then is found by the next.
const ROUNDS: usize = 20;

impl ControlPlane {
    /// Condemns packs of a lineage that nothing names.
    pub(super) async fn sweep_lineage(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
    ) -> PortResult<u64> {
        let mut condemned = 0;
        for _ in 0..ROUNDS {
            let page = self.store().unreferenced_packs(workspace, lineage, PAGE).await?;
            let mut done = 0;
            for packs in page.items.chunks(TOGETHER) {
                done += self.condemn(packs).await?;
            }
            condemned += done;
            if !page.more || done == 0 {
                return Ok(condemned);
            }
        }
        // There are more than one delivery should take on.
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        change.outbox.push((Effect::SweepPacks { lineage }, self.now()));
        match self.commit(change).await {
            Ok(()) | Err(CommitError::Refused(_)) => Ok(condemned),
            Err(CommitError::Failed(error)) => Err(error),
        }
    }

    async fn condemn(&self, packs: &[Pack]) -> PortResult<u64> {
        let now = self.now();
        let goes: Vec<&Pack> =
            packs.iter().filter(|pack| rules::sweep(pack, false, now) == Sweep::Condemn).collect();
        let Some(first) = goes.first() else { return Ok(0) };
        let mut change = ChangeSet::new(Family::Workspace(first.workspace));
        change.guards.push(Guard::Unreferenced(goes.iter().map(|pack| pack.id).collect()));
        for pack in &goes {
            change.guards.push(Guard::Revision(Key::Pack(pack.id), pack.revision));
            change.puts.push(Put::Pack(Pack {
                state: PackState::Condemned,
                condemned_at: Some(now),
                revision: pack.revision + 1,
                ..(*pack).clone()
            }));
        }
        self.swept(change, goes.len()).await
    }

    /// Removes packs of all workspaces whose grace is over, at most some thousands. A pack that is named again stays
    /// condemned until the snapshot that names it revives it or goes.
    pub(super) async fn sweep_condemned(&self) -> PortResult<u64> {
        let mut removed = 0;
        for _ in 0..ROUNDS {
            let by = self.now().before(rules::PACK_GRACE);
            let page = self.store().condemned_packs(by, PAGE).await?;
            let mut done = 0;
            let mut rest = &page.items[..];
            while let Some(first) = rest.first() {
                let alike =
                    rest.iter().take(TOGETHER).take_while(|pack| pack.workspace == first.workspace).count();
                let (packs, others) = rest.split_at(alike);
                done += self.remove_packs(first.workspace, packs).await?;
                rest = others;
            }
            removed += done;
            if !page.more || done == 0 {
                break;
            }
        }
        Ok(removed)
    }

    async fn remove_packs(&self, workspace: Id<Workspace>, packs: &[Pack]) -> PortResult<u64> {
        let now = self.now();
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        let goes: Vec<&Pack> =
            packs.iter().filter(|pack| rules::sweep(pack, false, now) == Sweep::Remove).collect();
        if goes.is_empty() {
            return Ok(0);
        }
        change.guards.push(Guard::Unreferenced(goes.iter().map(|pack| pack.id).collect()));
        for pack in &goes {
            change.guards.push(Guard::Revision(Key::Pack(pack.id), pack.revision));
            change.deletes.push(Key::Pack(pack.id));
            for blob in [pack_blob(pack.workspace, pack.id)?, index_blob(pack.workspace, pack.id)?] {
                change.outbox.push((Effect::DeleteBlob { blob }, now));
            }
        }
        self.swept(change, goes.len()).await
    }

    async fn swept(&self, change: ChangeSet, count: usize) -> PortResult<u64> {
        match self.commit(change).await {
            Ok(()) => Ok(count as u64),
            // One of them is wanted again, or another sweep was faster: the next round sees.
            Err(CommitError::Refused(_)) => Ok(0),
            Err(CommitError::Failed(error)) => Err(error),
        }
    }

    /// Removes the blob of snapshots that are gone. One that no record names is never named anew, so this cannot
    /// take a blob from anybody.
    pub(super) async fn drop_snapshot_blob(
        &self,
        workspace: Id<Workspace>,
        blob: &BlobKey,
    ) -> PortResult<()> {
        if self.store().snapshot_names(workspace, blob).await? {
            return Ok(());
        }
        self.ports().blobs.delete(blob).await
    }
}

/// Where a pack lies. Its id is part of the key, so a key is never used for other bytes.
pub(super) fn pack_blob(workspace: Id<Workspace>, pack: Id<Pack>) -> PortResult<BlobKey> {
    super::version::blob_key(&format!("{workspace}/packs/{pack}")).map_err(into_port)
}

/// Where its index lies.
pub(super) fn index_blob(workspace: Id<Workspace>, pack: Id<Pack>) -> PortResult<BlobKey> {
    super::version::blob_key(&format!("{workspace}/packs/{pack}.index")).map_err(into_port)
}
