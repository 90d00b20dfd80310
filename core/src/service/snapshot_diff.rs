//! What differs between two snapshots.

use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::blob::BlobKey;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Snapshot, SnapshotState};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::snapshot::FORMAT as PACKED;
use burstflare_ports::wire::snapshot::manifest::{self, Tables};
use burstflare_ports::wire::snapshot::tree::Reader;
use bytes::Bytes;
use ruzstd::decoding::StreamingDecoder;

use super::agent_snapshot::corrupt;
use super::snapshot_restore::not_complete;
use super::{Caller, ControlPlane, List, fault};
use crate::domain::diff::{Difference, Entries, Nothing, differences};
use crate::domain::permission::Action;
use crate::error::{Error, Result};

/// The largest manifest that is compared, in bytes: two of them are in memory.
const LIMIT: usize = 32 << 20;
/// The most differences of a page.
const PAGE: usize = 1000;
/// How long a page of differences is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Which differences are wanted.
#[derive(Debug, Clone, Default)]
pub struct DiffQuery {
    /// With which earlier snapshot, by id or label; with its parent if none.
    pub against: Option<String>,
    /// Behind how many.
    pub skip: u64,
    /// How many at most, 1 to 1,000.
    pub limit: usize,
}

/// A page of differences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// The snapshot.
    pub snapshot: Id<Snapshot>,
    /// The earlier one; none where everything is new, or where that one is gone.
    pub against: Option<Id<Snapshot>>,
    /// By path.
    pub list: List<Difference, u64>,
}

impl ControlPlane {
    /// What a snapshot has that an earlier one has not, and the other way round, in pages by path. Without an earlier one
    /// everything is new.
    ///
    /// # Errors
    /// `NotFound`, `snapshot_not_complete`, `not_supported` for snapshots of format 1, `snapshot_too_large`; `forbidden`
    /// where the caller may not get into the sessions, whose files these are.
    pub async fn diff_snapshots(&self, caller: &Caller, reference: &str, query: DiffQuery) -> Result<Diff> {
        if !(1..=PAGE).contains(&query.limit) {
            return Err(Error::invalid("limit", format!("limit is 1 to {PAGE}")));
        }
        let (new, _) = self.own_snapshot(caller, reference, Action::SessionAttach).await?;
        let old = match (&query.against, new.parent) {
            (Some(against), _) => Some(self.own_snapshot(caller, against, Action::SessionAttach).await?.0),
            (None, Some(parent)) => self.store().snapshot(new.workspace, parent).await?,
            (None, None) => None,
        };
        // The one it was taken on top of may have gone since.
        let old = old.filter(|old| query.against.is_some() || old.state == SnapshotState::Complete);
        let (snapshot, against) = (new.id, old.as_ref().map(|old| old.id));
        for compared in [Some(&new), old.as_ref()].into_iter().flatten() {
            comparable(compared)?;
        }
        // Both stand still, so a page of their differences does, too; working it out reads both trees.
        let place = against.map_or_else(|| "nothing".to_owned(), |against| against.to_string());
        let key = format!("diff1/{}/{snapshot}/{place}/{}-{}", new.workspace, query.skip, query.limit);
        let key = key.parse::<BlobKey>().map_err(|error| fault("diff.key", error))?;
        let (items, more) = match self.cached(&key).await {
            Some(page) => page,
            None => {
                let page = self.differences(&new, old.as_ref(), &query).await?;
                self.keep_cached(&key, &page, KEPT).await;
                page
            }
        };
        let next = more.then(|| query.skip + items.len() as u64);
        Ok(Diff { snapshot, against, list: List { items, next } })
    }

    async fn differences(
        &self,
        new: &Snapshot,
        old: Option<&Snapshot>,
        query: &DiffQuery,
    ) -> Result<(Vec<Difference>, bool)> {
        let new = self.tree_of(new).await?;
        let mut new = reader(&new)?;
        match old {
            Some(old) => {
                let old = self.tree_of(old).await?;
                compare(&mut reader(&old)?, &mut new, query.skip, query.limit)
            }
            None => compare(&mut Nothing, &mut new, query.skip, query.limit),
        }
    }

    async fn tree_of(&self, snapshot: &Snapshot) -> Result<(Arc<Tables>, Bytes)> {
        let (_, flow) = self.ports().blobs.get(&snapshot.blob, None).await?;
        let bytes = Body::Stream(flow).collect(LIMIT, "snapshot.diff").await?;
        let (tables, tree) = manifest::decode(&bytes).map_err(corrupt)?;
        Ok((Arc::new(tables), tree))
    }
}

fn comparable(snapshot: &Snapshot) -> Result<()> {
    if snapshot.state != SnapshotState::Complete {
        return Err(not_complete());
    }
    if snapshot.format != PACKED {
        return Err(Error::conflict(
            "not_supported",
            "That snapshot was taken in an older format, whose contents cannot be listed.",
            "Compare with a newer one; restoring it works.",
        ));
    }
    if snapshot.stored > LIMIT as u64 {
        return Err(Error::conflict(
            "snapshot_too_large",
            "That snapshot has too many entries to be compared here.",
            "Fork it, and compare the files there.",
        ));
    }
    Ok(())
}

fn reader(
    (tables, tree): &(Arc<Tables>, Bytes),
) -> Result<Reader<StreamingDecoder<&[u8], ruzstd::decoding::FrameDecoder>>> {
    let damaged = || {
        corrupt(burstflare_ports::wire::snapshot::SnapshotError::Corrupt("its tree is damaged".to_owned()))
    };
    let plain = StreamingDecoder::new(&tree[..]).map_err(|error| damaged().with_source(error.to_string()))?;
    Ok(Reader::new(plain, Arc::clone(tables)).map_err(corrupt)?)
}

fn compare(
    old: &mut impl Entries,
    new: &mut impl Entries,
    skip: u64,
    limit: usize,
) -> Result<(Vec<Difference>, bool)> {
    Ok(differences(old, new, skip, limit).map_err(corrupt)?)
}
