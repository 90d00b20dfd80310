use std::sync::Arc;

use super::world::{World, inserts};
use super::{Verdict, all_pages, same};
use crate::id::Id;
use crate::record::Workspace;
use crate::store::{Family, Put, Store};

pub(super) async fn snapshots_are_newest_first_in_pages(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let (one, two) = (world.tree(workspace).await?, world.tree(workspace).await?);
    let mut wanted = Vec::new();
    for _ in 0..7 {
        let snapshot = world.snapshot(&one.session)?;
        let puts = [Put::Snapshot(snapshot.clone()), Put::Snapshot(world.snapshot(&two.session)?)];
        world.commit(&inserts(Family::Workspace(workspace), puts)).await?;
        wanted.insert(0, snapshot);
    }
    let id = one.session.id;
    let found =
        all_pages(|after| world.store.snapshots(workspace, id, after, super::STEP), |snapshot| snapshot.id)
            .await?;
    same!(found, wanted, "the snapshots");
    Ok(())
}
