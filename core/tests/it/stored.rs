//! What lies in records and blobs, looked at past every fault.

use std::collections::{BTreeMap, BTreeSet};

use burstflare_ports::blob::{BlobKey, Blobs};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Pack, Session, Snapshot, Workspace};
use burstflare_ports::store::{ChangeSet, Counter, Family, Guard, PAGE_LIMIT, Store};
use burstflare_ports::stream::Body;
use bytes::Bytes;

use crate::packed::{self, Files};

/// All bytes of a blob; `None` where there is none, or none that is whole.
pub(crate) async fn bytes(blobs: &dyn Blobs, key: &BlobKey) -> Option<Bytes> {
    let (_, stream) = blobs.get(key, None).await.ok()?;
    Body::Stream(stream).collect(1 << 20, "blob").await.ok()
}

/// The packs that a snapshot names.
pub(crate) async fn packs_of(store: &dyn Store, snapshot: &Snapshot) -> Vec<Pack> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.packs_of(snapshot.workspace, snapshot.id, after, PAGE_LIMIT).await.unwrap();
        after = page.items.last().map(|pack| pack.id);
        all.extend(page.items);
        if !page.more {
            return all;
        }
    }
}

/// The files of a complete snapshot of format 2, as a restore would find them.
pub(crate) async fn tree_of(store: &dyn Store, blobs: &dyn Blobs, snapshot: &Snapshot) -> Option<Files> {
    let mut packs = BTreeMap::new();
    for pack in packs_of(store, snapshot).await {
        let blob = format!("{}/packs/{}", pack.workspace, pack.id).parse().unwrap();
        packs.insert(pack.hash, bytes(blobs, &blob).await?);
    }
    let manifest = bytes(blobs, &snapshot.blob).await?;
    packed::unpacked(&manifest, |pack| packs.get(&pack.hash.to_string()).map(|bytes| bytes.to_vec()))
}

/// The snapshots of a session.
pub(crate) async fn snapshots(store: &dyn Store, session: &Session) -> Vec<Snapshot> {
    store.snapshots(session.workspace, session.id, None, PAGE_LIMIT).await.unwrap().items
}

/// The keys below a workspace's packs and snapshots, and how many of them no snapshot of these sessions names.
pub(crate) async fn unnamed(
    store: &dyn Store,
    blobs: &dyn Blobs,
    (workspace, sessions): (Id<Workspace>, &[Session]),
) -> (usize, Vec<BlobKey>) {
    let mut named = BTreeSet::new();
    for session in sessions {
        for snapshot in snapshots(store, session).await {
            for pack in packs_of(store, &snapshot).await {
                let blob = format!("{workspace}/packs/{}", pack.id);
                named.extend([format!("{blob}.index"), blob]);
            }
            named.insert(snapshot.blob.to_string());
        }
    }
    let (mut kept, mut left) = (0, Vec::new());
    let prefix: BlobKey = workspace.to_string().parse().unwrap();
    let mut after: Option<BlobKey> = None;
    loop {
        let page = blobs.list(&prefix, after.as_ref(), 200).await.unwrap();
        for key in page.keys {
            let kind = key.as_str().split('/').nth(1).unwrap_or_default();
            if !matches!(kind, "packs" | "snapshots") {
                continue;
            }
            if named.contains(key.as_str()) { kept += 1 } else { left.push(key) }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return (kept, left),
        }
    }
}

/// Whether a counter is exactly this. The port tells no counter; a guard does.
pub(crate) async fn counts(
    store: &dyn Store,
    workspace: Id<Workspace>,
    counter: Counter,
    count: u64,
) -> bool {
    let is_below = async |limit| {
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        change.guards.push(Guard::Below { counter, by: 0, limit });
        store.commit(&change).await.is_ok()
    };
    is_below(count).await && (count == 0 || !is_below(count - 1).await)
}
