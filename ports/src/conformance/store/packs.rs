use std::sync::Arc;
use std::time::Duration;

use super::world::{NOON, Tree, World, deletes, inserts, naming, update};
use super::{Finding, Verdict, all_pages, ensure, same};
use crate::error::ErrorKind;
use crate::id::Id;
use crate::record::{Pack, PackState, SharedPacks, Snapshot, SnapshotState, Workspace};
use crate::store::{ChangeSet, Family, Guard, Key, Put, Store, UNREFERENCED_LIMIT};

/// A session with a snapshot that names live packs, committed.
pub(super) async fn packed(
    world: &World,
    workspace: Id<Workspace>,
    count: usize,
) -> Result<(Tree, Snapshot, Vec<Pack>), Finding> {
    let tree = world.tree(workspace).await?;
    let snapshot = world.snapshot(&tree.session)?;
    let packs: Vec<_> = (0..count).map(|_| world.pack(&tree.session, PackState::Live)).collect();
    let mut change = inserts(Family::Workspace(workspace), [Put::Snapshot(snapshot.clone())]);
    for pack in &packs {
        change.guards.push(Guard::Absent(Key::Pack(pack.id)));
        change.puts.extend([Put::Pack(pack.clone()), naming(&snapshot, pack)]);
    }
    world.commit(&change).await?;
    Ok((tree, snapshot, packs))
}

pub(super) fn guarded(workspace: Id<Workspace>, guard: Guard) -> ChangeSet {
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.guards.push(guard);
    change
}

pub(super) async fn packs_are_read_back_and_newest_first(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let (tree, snapshot, mut packs) = packed(&world, workspace, 7).await?;
    same!(world.store.pack(workspace, packs[0].id).await?.as_ref(), Some(&packs[0]), "a pack");
    same!(world.store.pack(world.id(), packs[0].id).await?, None, "in another workspace");
    packs.reverse();
    let of = |after| world.store.packs_of(workspace, snapshot.id, after, super::STEP);
    same!(all_pages(of, |pack| pack.id).await?, packs, "packs of the snapshot");
    let within = |after| world.store.packs_in(workspace, tree.session.lineage, after, super::STEP);
    same!(all_pages(within, |pack| pack.id).await?, packs, "packs of the lineage");
    packs.reverse();
    let all = |after| world.store.all_packs(workspace, after, super::STEP);
    same!(all_pages(all, |pack| pack.id).await?, packs, "packs of the workspace, oldest first");
    let elsewhere = world.store.packs_in(world.id(), tree.session.lineage, None, 10).await?;
    same!(elsewhere.items.len(), 0, "the lineage in another workspace");
    Ok(())
}

pub(super) async fn a_snapshot_can_name_what_another_names(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let family = Family::Workspace(workspace);
    let (tree, from, mut packs) = packed(&world, workspace, 3).await?;
    let to = world.snapshot(&tree.session)?;
    let own = world.pack(&tree.session, PackState::Storing);
    let shared = Put::SharedPacks(SharedPacks { workspace, from: from.id, to: to.id });
    let mut change = inserts(family, [Put::Snapshot(to.clone()), Put::Pack(own.clone())]);
    change.puts.extend([naming(&to, &own), naming(&to, &packs[1]), shared.clone()]);
    world.commit(&change).await?;
    packs.push(own);
    packs.reverse();
    same!(world.store.packs_of(workspace, to.id, None, 10).await?.items, packs, "what it names");
    same!(
        world.store.packs_of(workspace, from.id, None, 10).await?.items.len(),
        3,
        "what the other one names"
    );
    let mut again = ChangeSet::new(family);
    again.puts.push(shared);
    world.commit(&again).await?;
    same!(world.store.packs_of(workspace, to.id, None, 10).await?.items.len(), 4, "shared again");
    // What is not there shares nothing, and nothing is shared with what is not there.
    let nothing = SharedPacks { workspace, from: world.id(), to: world.id() };
    again.puts = vec![Put::SharedPacks(nothing)];
    world.commit(&again).await?;
    again.puts = vec![Put::SharedPacks(SharedPacks { workspace, from: from.id, to: world.id() })];
    same!(world.failure(&again).await?, ErrorKind::Conflict, "shared with nobody");
    Ok(())
}

pub(super) async fn a_named_pack_is_not_deleted(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let family = Family::Workspace(workspace);
    let (tree, snapshot, packs) = packed(&world, workspace, 2).await?;
    let gone = deletes(family, [Key::Pack(packs[0].id)]);
    same!(world.failure(&gone).await?, ErrorKind::Conflict, "deleting a named pack");
    world.commit(&deletes(family, [Key::SnapshotPack(snapshot.id, packs[0].id)])).await?;
    world.commit(&gone).await?;
    same!(world.store.pack(workspace, packs[0].id).await?, None, "the pack");
    // A naming goes with its snapshot, and that with its session; packs stay.
    world.commit(&deletes(family, [Key::Session(tree.session.id)])).await?;
    same!(world.store.packs_of(workspace, snapshot.id, None, 10).await?.items.len(), 0, "what it names");
    same!(world.store.pack(workspace, packs[1].id).await?.is_some(), true, "the other pack");
    world.commit(&deletes(family, [Key::Pack(packs[1].id)])).await
}

pub(super) async fn a_naming_needs_both_and_exists_once(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let family = Family::Workspace(workspace);
    let (tree, snapshot, packs) = packed(&world, workspace, 1).await?;
    let (lost, missing) = (world.snapshot(&tree.session)?, world.pack(&tree.session, PackState::Live));
    for put in [naming(&snapshot, &packs[0]), naming(&lost, &packs[0]), naming(&snapshot, &missing)] {
        let mut change = ChangeSet::new(family);
        change.puts.push(put);
        same!(world.failure(&change).await?, ErrorKind::Conflict, "the naming");
    }
    Ok(())
}

pub(super) async fn packed_counts_live_packs(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let (tree, snapshot, packs) = packed(&world, workspace, 2).await?;
    let guard = |packs| Guard::Packed { snapshot: snapshot.id, packs };
    world.commit(&guarded(workspace, guard(2))).await?;
    for wrong in [0, 1, 3, u64::MAX] {
        same!(world.refusal(&guarded(workspace, guard(wrong))).await?, guard(wrong), "not {wrong}");
    }
    let elsewhere = world.id();
    same!(world.refusal(&guarded(elsewhere, guard(2))).await?, guard(2), "in another workspace");
    let empty = world.snapshot(&tree.session)?;
    world.commit(&guarded(workspace, Guard::Packed { snapshot: empty.id, packs: 0 })).await?;
    for state in [PackState::Condemned, PackState::Storing] {
        let mut pack =
            world.store.pack(workspace, packs[0].id).await?.ok_or(Finding("no pack".to_owned()))?;
        (pack.state, pack.revision) = (state, pack.revision + 1);
        world.commit(&update(Family::Workspace(workspace), Put::Pack(pack))).await?;
        same!(world.refusal(&guarded(workspace, guard(2))).await?, guard(2), "{state:?}");
    }
    Ok(())
}

pub(super) async fn unreferenced_refuses_what_is_named(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let (tree, snapshot, packs) = packed(&world, workspace, 2).await?;
    let free = world.pack(&tree.session, PackState::Live);
    world.commit(&inserts(Family::Workspace(workspace), [Put::Pack(free.clone())])).await?;
    world.commit(&guarded(workspace, Guard::Unreferenced(vec![free.id]))).await?;
    let mut many = vec![free.id; UNREFERENCED_LIMIT - 1];
    many.push(packs[1].id);
    let guard = Guard::Unreferenced(many.clone());
    same!(world.refusal(&guarded(workspace, guard.clone())).await?, guard, "one of many is named");
    world.commit(&guarded(world.id(), guard.clone())).await?;
    many.push(free.id);
    for wrong in [many, Vec::new()] {
        let kind = world.failure(&guarded(workspace, Guard::Unreferenced(wrong))).await?;
        same!(kind, ErrorKind::Invalid, "too many, or none");
    }
    world.commit(&deletes(Family::Workspace(workspace), [Key::Snapshot(snapshot.id)])).await?;
    world.commit(&guarded(workspace, guard)).await
}

pub(super) async fn the_sweep_finds_what_nothing_names(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let family = Family::Workspace(workspace);
    let (tree, snapshot, named) = packed(&world, workspace, 3).await?;
    let lineage = tree.session.lineage;
    let mut free =
        vec![world.pack(&tree.session, PackState::Storing), world.pack(&tree.session, PackState::Live)];
    let mut condemned = Vec::new();
    for minutes in [2_u64, 0, 1] {
        let mut pack = world.pack(&tree.session, PackState::Condemned);
        pack.condemned_at = Some(NOON.after(Duration::from_secs(60 * minutes)));
        condemned.push(pack);
    }
    let puts = free.iter().chain(&condemned).cloned().map(Put::Pack);
    world.commit(&inserts(family, puts)).await?;
    free.reverse();
    let found = world.store.unreferenced_packs(workspace, lineage, 10).await?;
    same!(found.items, free, "unreferenced, newest first");
    let first = world.store.unreferenced_packs(workspace, lineage, 1).await?;
    ensure!(first.more && first.items.len() == 1, "one of two");
    world.commit(&deletes(family, [Key::Snapshot(snapshot.id)])).await?;
    let found = world.store.unreferenced_packs(workspace, lineage, 10).await?;
    same!(found.items.len(), 2 + named.len(), "with what the deleted one named");
    condemned.sort_by_key(|pack| pack.condemned_at);
    let by = NOON.after(Duration::from_secs(60));
    let mut found = world.store.condemned_packs(by, 200).await?.items;
    found.retain(|pack| pack.workspace == workspace);
    same!(found, condemned[..2].to_vec(), "condemned by then, longest first");
    same!(world.store.unreferenced_packs(world.id(), lineage, 10).await?.items.len(), 0, "elsewhere");
    // Other cases of this database look for what is condemned, too.
    world.commit(&deletes(family, condemned.iter().map(|pack| Key::Pack(pack.id)))).await
}

pub(super) async fn a_session_has_one_pending_snapshot(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let family = Family::Workspace(workspace);
    let tree = world.tree(workspace).await?;
    let free = Guard::Free(crate::store::Unique::PendingSnapshot(tree.session.id));
    same!(world.store.pending_snapshot(workspace, tree.session.id).await?, None, "none yet");
    let mut first = world.snapshot(&tree.session)?;
    first.state = SnapshotState::Pending;
    let mut change = inserts(family, [Put::Snapshot(first.clone())]);
    change.guards.push(free.clone());
    world.commit(&change).await?;
    let found = world.store.pending_snapshot(workspace, tree.session.id).await?;
    same!(found.as_ref(), Some(&first), "the pending one");
    let mut second = world.snapshot(&tree.session)?;
    second.state = SnapshotState::Pending;
    let mut change = inserts(family, [Put::Snapshot(second.clone())]);
    same!(world.failure(&change).await?, ErrorKind::Conflict, "a second one without its guard");
    change.guards.push(free.clone());
    same!(world.refusal(&change).await?, free, "a second one");
    (first.state, first.revision) = (SnapshotState::Failed, 2);
    world.commit(&update(family, Put::Snapshot(first))).await?;
    world.commit(&change).await
}
