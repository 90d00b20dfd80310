use std::sync::Arc;

use super::world::{HOUR, NOON, World, deletes, inserts, parse, update};
use super::{Verdict, all_pages, ensure, same};
use crate::id::Id;
use crate::record::{Failure, SnapshotKind, SnapshotState, Workspace};
use crate::store::{Bump, Counter, Family, Guard, Key, Put, Store};
use crate::text::Label;

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

pub(super) async fn a_label_finds_its_snapshots(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let (one, two) = (world.tree(workspace).await?, world.tree(workspace).await?);
    let label: Label = parse("before_the.upgrade-1+2")?;
    let mut wanted = Vec::new();
    for tree in [&one, &two] {
        let mut labelled = world.snapshot(&tree.session)?;
        labelled.label = Some(label.clone());
        let puts = [Put::Snapshot(labelled.clone()), Put::Snapshot(world.snapshot(&tree.session)?)];
        world.commit(&inserts(Family::Workspace(workspace), puts)).await?;
        wanted.insert(0, labelled);
    }
    let found = world.store.snapshots_by_label(workspace, &label, 10).await?;
    same!(found.items, wanted, "both sessions' snapshots");
    ensure!(world.store.snapshots_by_label(workspace, &label, 1).await?.more, "there are two");
    same!(world.store.snapshots_by_label(world.id(), &label, 10).await?.items.len(), 0, "elsewhere");
    same!(world.store.snapshots_by_label(workspace, &parse("other")?, 10).await?.items.len(), 0, "no label");
    Ok(())
}

pub(super) async fn snapshots_are_due_from_their_moment_on(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let family = Family::Workspace(tree.session.workspace);
    let mut due = Vec::new();
    for hours in [3, 1, 2] {
        let mut snapshot = world.snapshot(&tree.session)?;
        snapshot.due_at = Some(NOON.after(HOUR * hours));
        world.commit(&inserts(family, [Put::Snapshot(snapshot.clone())])).await?;
        due.push(snapshot);
    }
    world.commit(&inserts(family, [Put::Snapshot(world.snapshot(&tree.session)?)])).await?;
    due.sort_by_key(|snapshot| snapshot.due_at);
    let mut found = world.store.due_snapshots(NOON.after(HOUR * 2), 200).await?.items;
    found.retain(|snapshot| snapshot.workspace == tree.session.workspace);
    same!(found, due[..2].to_vec(), "due by then, longest first");
    let mut later = due[0].clone();
    later.kind = SnapshotKind::Manual;
    later.failure = Some(Failure { code: "c".to_owned(), message: "it's".to_owned(), hint: "é".to_owned() });
    (later.packed, later.parent, later.verified_at) = (1 << 40, Some(world.id()), Some(NOON));
    (later.due_at, later.revision) = (None, 2);
    world.commit(&update(family, Put::Snapshot(later.clone()))).await?;
    same!(world.store.snapshot(later.workspace, later.id).await?, Some(later), "the one put off");
    world.commit(&deletes(family, [Key::Session(tree.session.id)])).await
}

pub(super) async fn a_blob_is_named_until_its_last_snapshot_goes(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let (workspace, family) = (tree.session.workspace, Family::Workspace(tree.session.workspace));
    let one = world.snapshot(&tree.session)?;
    let mut two = world.snapshot(&tree.session)?;
    two.blob = one.blob.clone();
    world.commit(&inserts(family, [Put::Snapshot(one.clone()), Put::Snapshot(two.clone())])).await?;
    ensure!(world.store.snapshot_names(workspace, &one.blob).await?, "two name it");
    ensure!(!world.store.snapshot_names(world.id(), &one.blob).await?, "none in another workspace");
    world.commit(&deletes(family, [Key::Snapshot(one.id)])).await?;
    ensure!(world.store.snapshot_names(workspace, &one.blob).await?, "one names it");
    world.commit(&deletes(family, [Key::Snapshot(two.id)])).await?;
    ensure!(!world.store.snapshot_names(workspace, &one.blob).await?, "none names it");
    let mut failed = world.snapshot(&tree.session)?;
    failed.state = SnapshotState::Failed;
    world.commit(&inserts(family, [Put::Snapshot(failed.clone())])).await?;
    ensure!(!world.store.snapshot_names(workspace, &failed.blob).await?, "a failed one does not count");
    Ok(())
}

pub(super) async fn deleting_a_session_forgets_its_counter(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let family = Family::Workspace(tree.session.workspace);
    let counter = Counter::Snapshots(tree.session.id);
    let mut change = deletes(family, []);
    change.bumps.push(Bump { counter, by: 3 });
    world.commit(&change).await?;
    change.bumps.clear();
    change.guards.push(Guard::Below { counter, by: 0, limit: 2 });
    same!(world.refusal(&change).await?, change.guards[0], "the counter");
    world.commit(&deletes(family, [Key::Session(tree.session.id)])).await?;
    world.commit(&change).await
}
