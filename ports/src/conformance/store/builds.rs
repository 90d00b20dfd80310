use std::sync::Arc;
use std::time::Duration;

use super::world::{NOON, World, deletes, inserts};
use super::{Verdict, all_pages, same};
use crate::id::Id;
use crate::record::{BuildState, Workspace};
use crate::store::{Family, Key, Put, Store};

pub(super) async fn builds_are_newest_first_in_pages(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let tree = world.tree(workspace).await?;
    let mut wanted = Vec::new();
    for _ in 0..7 {
        let build = world.build(&tree.version);
        world.commit(&inserts(Family::Workspace(workspace), [Put::Build(build.clone())])).await?;
        wanted.insert(0, build);
    }
    let found =
        all_pages(|after| world.store.builds(workspace, after, super::STEP), |build| build.id).await?;
    same!(found, wanted, "the builds");
    Ok(())
}

pub(super) async fn log_chunks_begin_with_the_wanted_byte(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let tree = world.tree(workspace).await?;
    let build = world.build(&tree.version);
    let mut change = inserts(Family::Workspace(workspace), [Put::Build(build.clone())]);
    // 100, 1,000 and 10,000: in the order of numbers, not of their texts.
    for (offset, size) in [(0, 100), (100, 900), (1_000, 9_000), (10_000, 5)] {
        change.puts.push(Put::LogChunk(world.chunk(&build, 1, offset, size)?));
    }
    world.commit(&change).await?;
    for (from, wanted) in [
        (0, vec![0, 100, 1_000, 10_000]),
        (99, vec![0, 100, 1_000, 10_000]),
        (100, vec![100, 1_000, 10_000]),
        (999, vec![100, 1_000, 10_000]),
        (5_000, vec![1_000, 10_000]),
        (10_004, vec![10_000]),
        (10_005, vec![]),
        (1 << 40, vec![]),
    ] {
        let page = world.store.log_chunks(workspace, build.id, 1, from, 10).await?;
        let offsets: Vec<_> = page.items.iter().map(|chunk| chunk.offset).collect();
        same!(offsets, wanted, "from {from}");
    }
    let page = world.store.log_chunks(workspace, build.id, 1, 50, 2).await?;
    same!((page.items.len(), page.more), (2, true), "two of four");
    Ok(())
}

pub(super) async fn log_chunks_are_apart_by_attempt(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let tree = world.tree(workspace).await?;
    let build = world.build(&tree.version);
    let other = world.build(&tree.version);
    let (first, second) = (world.chunk(&build, 1, 0, 5)?, world.chunk(&build, 2, 0, 7)?);
    let puts = [
        Put::Build(build.clone()),
        Put::Build(other.clone()),
        Put::LogChunk(first.clone()),
        Put::LogChunk(second.clone()),
    ];
    world.commit(&inserts(Family::Workspace(workspace), puts)).await?;
    same!(world.store.log_chunks(workspace, build.id, 1, 0, 10).await?.items, vec![first], "attempt 1");
    same!(world.store.log_chunks(workspace, build.id, 2, 0, 10).await?.items, vec![second], "attempt 2");
    same!(world.store.log_chunks(workspace, build.id, 3, 0, 10).await?.items, vec![], "attempt 3");
    same!(world.store.log_chunks(workspace, other.id, 1, 0, 10).await?.items, vec![], "another build");
    Ok(())
}

pub(super) async fn overdue_builds_wait_or_run_past_their_deadline(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let mut wanted = Vec::new();
    let (past, future) = (NOON, NOON.after(Duration::from_millis(1)));
    let mut all = Vec::new();
    for workspace in [world.id(), world.id()] {
        let tree = world.tree(workspace).await?;
        for (state, deadline, overdue) in [
            (BuildState::Queued, Some(past), true),
            (BuildState::Running, Some(past), true),
            (BuildState::Running, Some(future), false),
            (BuildState::Queued, None, false),
            (BuildState::Succeeded, Some(past), false),
            (BuildState::Failed, Some(past), false),
            (BuildState::Cancelled, Some(past), false),
        ] {
            let mut build = world.build(&tree.version);
            (build.state, build.deadline) = (state, deadline);
            world.commit(&inserts(Family::Workspace(workspace), [Put::Build(build.clone())])).await?;
            all.push(build.id);
            if overdue {
                wanted.push(build);
            }
        }
    }
    let mut found =
        all_pages(|after| world.store.overdue_builds(NOON, after, super::STEP), |build| build.id).await?;
    found.retain(|build| all.contains(&build.id));
    same!(found, wanted, "the overdue builds, oldest first");
    // They are finished now: the list of other cases stays short.
    for build in wanted {
        world.commit(&deletes(Family::Workspace(build.workspace), [Key::Build(build.id)])).await?;
    }
    Ok(())
}

pub(super) async fn deleting_a_build_takes_its_log_along(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let tree = world.tree(workspace).await?;
    let family = Family::Workspace(workspace);
    let (gone, kept) = (world.build(&tree.version), world.build(&tree.version));
    let chunk = world.chunk(&kept, 1, 0, 5)?;
    let puts = [
        Put::Build(gone.clone()),
        Put::Build(kept.clone()),
        Put::LogChunk(world.chunk(&gone, 1, 0, 5)?),
        Put::LogChunk(chunk.clone()),
    ];
    world.commit(&inserts(family, puts)).await?;
    world.commit(&deletes(family, [Key::Build(gone.id)])).await?;
    same!(world.store.log_chunks(workspace, gone.id, 1, 0, 10).await?.items, vec![], "the deleted one's log");
    same!(world.store.log_chunks(workspace, kept.id, 1, 0, 10).await?.items, vec![chunk], "the other's log");
    Ok(())
}
