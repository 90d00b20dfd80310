//! Leftovers: blobs that no record names, of crashes and of effects that were lost, and packs that nobody was told to
//! sweep. Reconcile walks over all of them, some pages at a time, and goes on where it was. That place is kept in
//! the cache: where it is forgotten, the walk begins anew.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Build, Pack, PackState, Workspace};
use burstflare_ports::store::PAGE_LIMIT;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::ControlPlane;
use super::reconcile::Report;
use crate::domain::build::is_active;
use crate::domain::leftover::{self as rules, NamedBy, Origin};

/// Rows or keys looked at in one step.
const PAGE: usize = 100;
/// Steps of one reconcile: each is a page of rows, a page of keys, or the next workspace.
const STEPS: usize = 40;

/// How long the walk's place is kept between two steps.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where the walk is.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Position {
    /// At the first workspace.
    #[default]
    Beginning,
    /// Behind this one.
    Behind(Id<Workspace>),
    /// Among its packs, behind this one.
    Packs(Id<Workspace>, Option<Id<Pack>>),
    /// Among its blobs, behind this key.
    Blobs(Id<Workspace>, Option<BlobKey>),
    /// At the end; it begins again at this moment.
    Resting(Timestamp),
}

impl ControlPlane {
    /// Goes some steps on. What it does in each is safe beside anything, and twice at once.
    pub(super) async fn walk_leftovers(&self, report: &mut Report) -> PortResult<()> {
        let key = "walk/leftovers"
            .parse::<BlobKey>()
            .map_err(|error| PortError::new(ErrorKind::Internal, "leftovers.walk", error.to_string()))?;
        let mut position = self.cached(&key).await.unwrap_or_default();
        if matches!(position, Position::Resting(until) if until > self.now()) {
            return Ok(());
        }
        let mut walked = Ok(());
        for _ in 0..STEPS {
            match self.walk_on(&position, report).await {
                Ok(next) => position = next,
                // What was reached before it counts.
                Err(error) => walked = Err(error),
            }
            if walked.is_err() || matches!(position, Position::Resting(_)) {
                break;
            }
        }
        self.keep_cached(&key, &position, KEPT).await;
        walked
    }

    async fn walk_on(&self, position: &Position, report: &mut Report) -> PortResult<Position> {
        match position.clone() {
            Position::Beginning | Position::Resting(_) => self.walk_into(None).await,
            Position::Behind(workspace) => self.walk_into(Some(workspace)).await,
            Position::Packs(workspace, after) => self.walk_packs(workspace, after, report).await,
            Position::Blobs(workspace, after) => self.walk_blobs(workspace, after, report).await,
        }
    }

    async fn walk_into(&self, after: Option<Id<Workspace>>) -> PortResult<Position> {
        let page = self.store().all_workspaces(after, 1).await?;
        Ok(match page.items.first() {
            Some(workspace) => Position::Packs(workspace.id, None),
            None => Position::Resting(self.now().after(rules::PERIOD)),
        })
    }

    /// Packs that nothing names and nobody was told to sweep are condemned.
    async fn walk_packs(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Pack>>,
        report: &mut Report,
    ) -> PortResult<Position> {
        let page = self.store().all_packs(workspace, after, PAGE).await?;
        let lineages: HashSet<_> = page
            .items
            .iter()
            .filter(|pack| pack.state != PackState::Condemned)
            .map(|pack| pack.lineage)
            .collect();
        let mut lineages: Vec<_> = lineages.into_iter().collect();
        lineages.sort_unstable();
        for lineage in lineages {
            report.condemned += self.sweep_lineage(workspace, lineage).await?;
        }
        Ok(match page.items.last() {
            Some(last) if page.more => Position::Packs(workspace, Some(last.id)),
            _ => Position::Blobs(workspace, None),
        })
    }

    /// Blobs that no record names go, where they are old enough.
    async fn walk_blobs(
        &self,
        workspace: Id<Workspace>,
        after: Option<BlobKey>,
        report: &mut Report,
    ) -> PortResult<Position> {
        let below = super::version::blob_key(&workspace.to_string()).map_err(super::into_port)?;
        let page = self.ports().blobs.list(&below, after.as_ref(), PAGE).await?;
        let mut logs = HashMap::new();
        for key in &page.keys {
            let origin = rules::origin(key).filter(|origin| origin.is_old(self.now()));
            let Some(origin) = origin.filter(|origin| origin.workspace == workspace) else { continue };
            if self.is_named(key, &origin, &mut logs).await? {
                continue;
            }
            match self.ports().blobs.delete(key).await {
                Ok(()) => {
                    tracing::info!(%key, "a blob that no record names is removed");
                    report.leftovers += 1;
                }
                // One blob that resists must not keep the others.
                Err(error) => tracing::warn!(%key, ?error, "leftover stays"),
            }
        }
        Ok(match page.next {
            Some(next) => Position::Blobs(workspace, Some(next)),
            None => Position::Behind(workspace),
        })
    }

    /// Whether a record names an old blob, or may come to name it. Nothing else is ever written below its key, and what
    /// could commit its name has been refused since, so an answer of no stays right.
    async fn is_named(
        &self,
        key: &BlobKey,
        origin: &Origin,
        logs: &mut HashMap<(Id<Build>, u32), HashSet<BlobKey>>,
    ) -> PortResult<bool> {
        let workspace = origin.workspace;
        match origin.named_by {
            NamedBy::Bundle(id) => {
                let version = self.store().version(workspace, id).await?;
                Ok(version.and_then(|version| version.bundle).is_some_and(|bundle| bundle.blob == *key))
            }
            NamedBy::Layer(id, attempt) => {
                // The build before its version: one that ends in between names its layer by then.
                let Some(build) = self.store().build(workspace, id).await? else { return Ok(false) };
                if is_active(build.state) && build.attempt == attempt {
                    return Ok(true);
                }
                let version = self.store().version(workspace, build.version).await?;
                Ok(version.and_then(|version| version.layer).is_some_and(|layer| layer.blob == *key))
            }
            NamedBy::Log(id, attempt) => {
                let build = self.store().build(workspace, id).await?;
                if build.is_some_and(|build| is_active(build.state) && build.attempt == attempt) {
                    return Ok(true);
                }
                let named = match logs.entry((id, attempt)) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(self.log_blobs(workspace, id, attempt).await?),
                };
                Ok(named.contains(key))
            }
            NamedBy::Snapshot => self.store().snapshot_names(workspace, key).await,
            NamedBy::Pack(id) => Ok(self.store().pack(workspace, id).await?.is_some()),
        }
    }

    async fn log_blobs(
        &self,
        workspace: Id<Workspace>,
        build: Id<Build>,
        attempt: u32,
    ) -> PortResult<HashSet<BlobKey>> {
        let (mut named, mut from) = (HashSet::new(), 0);
        loop {
            let page = self.store().log_chunks(workspace, build, attempt, from, PAGE_LIMIT).await?;
            let end = page.items.last().map(|chunk| chunk.offset + chunk.size);
            named.extend(page.items.into_iter().map(|chunk| chunk.blob));
            match end.filter(|end| page.more && *end > from) {
                Some(end) => from = end,
                None => return Ok(named),
            }
        }
    }
}
