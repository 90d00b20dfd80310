use std::sync::Arc;

use super::world::{World, inserts};
use super::{Verdict, all_pages, same};
use crate::error::ErrorKind;
use crate::id::Id;
use crate::record::{Release, ReleaseCause, Workspace};
use crate::store::{Family, Put, Store};

pub(super) async fn releases_are_newest_first_by_workspace_and_template(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let (one, two) = (world.tree(workspace).await?, world.tree(workspace).await?);
    let mut all: Vec<Release> = vec![two.release.clone(), one.release.clone()];
    let mut of_one = vec![one.release.clone()];
    for number in 2..7 {
        let mut release = world.release(&one.version, number);
        (release.cause, release.previous) = (ReleaseCause::Rollback, Some(one.release.id));
        let other = world.release(&two.version, number);
        let puts = [Put::Release(release.clone()), Put::Release(other.clone())];
        world.commit(&inserts(Family::Workspace(workspace), puts)).await?;
        of_one.insert(0, release.clone());
        all.insert(0, release);
        all.insert(0, other);
    }
    let found =
        all_pages(|after| world.store.releases(workspace, None, after, super::STEP), |release| release.id)
            .await?;
    same!(found, all, "the workspace's releases");
    let template = Some(one.template.id);
    let found = all_pages(
        |after| world.store.releases(workspace, template, after, super::STEP),
        |release| release.id,
    )
    .await?;
    same!(found, of_one, "the template's releases");
    Ok(())
}

pub(super) async fn a_release_number_exists_once(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let twin = world.release(&tree.version, tree.release.number);
    let change = inserts(Family::Workspace(twin.workspace), [Put::Release(twin)]);
    same!(world.failure(&change).await?, ErrorKind::Conflict, "the second one");
    Ok(())
}
