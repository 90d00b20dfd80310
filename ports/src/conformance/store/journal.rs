use std::sync::Arc;

use super::world::{World, audit, event};
use super::{Verdict, ensure, same};
use crate::id::Id;
use crate::record::Workspace;
use crate::store::{ChangeSet, Family, Store};

/// Commits events with these kinds, all in one change.
async fn tell(world: &World, workspace: Id<Workspace>, kinds: &[&str]) -> Verdict {
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.events.extend(kinds.iter().map(|kind| event(kind)));
    change.audit.extend(kinds.iter().map(|kind| (Some(workspace), audit(kind))));
    world.commit(&change).await
}

pub(super) async fn events_come_in_order_behind_a_number(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let (here, there) = (world.id(), world.id());
    tell(&world, here, &["a", "b"]).await?;
    tell(&world, there, &["x"]).await?;
    tell(&world, here, &["c"]).await?;
    let all = world.store.events(here, 0, 10).await?;
    let kinds: Vec<_> = all.iter().map(|stored| stored.event.kind.as_str()).collect();
    same!(kinds, vec!["a", "b", "c"], "the kinds");
    same!(all[0].event, event("a"), "the event");
    ensure!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq), "numbers do not grow: {all:?}");
    ensure!(all[0].seq > 0, "zero is behind nothing");
    same!(world.store.events(here, all[0].seq, 10).await?, all[1..].to_vec(), "behind the first");
    same!(world.store.events(here, 0, 2).await?, all[..2].to_vec(), "two of three");
    same!(world.store.events(here, all[2].seq, 10).await?, vec![], "behind the last");
    same!(world.store.events(here, u64::MAX, 10).await?, vec![], "behind everything");
    Ok(())
}

pub(super) async fn the_last_event_is_the_newest_of_its_workspace(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let (here, there) = (world.id(), world.id());
    same!(world.store.last_event(here).await?, 0, "before the first");
    tell(&world, here, &["a", "b"]).await?;
    let last = world.store.events(here, 0, 10).await?.last().map(|stored| stored.seq);
    tell(&world, there, &["x"]).await?;
    same!(Some(world.store.last_event(here).await?), last, "behind two");
    Ok(())
}

pub(super) async fn audit_lines_are_newest_first_before_a_number(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let (here, there) = (world.id(), world.id());
    tell(&world, here, &["a", "b"]).await?;
    tell(&world, there, &["x"]).await?;
    tell(&world, here, &["c"]).await?;
    let first = world.store.audit(here, None, 2).await?;
    let actions: Vec<_> = first.items.iter().map(|stored| stored.entry.action.as_str()).collect();
    same!(actions, vec!["c", "b"], "the first page");
    same!(first.items[0].entry, audit("c"), "the line");
    ensure!(first.more, "there is more");
    let rest = world.store.audit(here, Some(first.items[1].seq), 2).await?;
    let actions: Vec<_> = rest.items.iter().map(|stored| stored.entry.action.as_str()).collect();
    same!((actions, rest.more), (vec!["a"], false), "the second page");
    Ok(())
}

pub(super) async fn directory_audit_is_not_among_workspace_audit(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let mut change = ChangeSet::new(Family::Directory);
    change.audit.push((Some(workspace), audit("member.add")));
    change.audit.push((None, audit("user.register")));
    world.commit(&change).await?;
    same!(world.store.audit(workspace, None, 10).await?.items, vec![], "the workspace's lines");
    Ok(())
}
