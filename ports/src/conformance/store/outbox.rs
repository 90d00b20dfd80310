use std::sync::Arc;
use std::time::Duration;

use super::world::{HOUR, NOON, World, inserts};
use super::{Finding, Verdict, ensure, same};
use crate::id::Id;
use crate::record::{Effect, GrantKind, StoredEffect, TokenKind, Workspace};
use crate::store::{ChangeSet, Family, PAGE_LIMIT, Put, Store};
use crate::time::Timestamp;

fn effect(world: &World) -> Effect {
    Effect::WakeSession { session: world.id() }
}

async fn put(world: &World, family: Family, effects: Vec<(Effect, Timestamp)>) -> Verdict {
    let mut change = ChangeSet::new(family);
    change.outbox = effects;
    world.commit(&change).await
}

async fn due(world: &World, workspace: Id<Workspace>, now: Timestamp) -> Result<Vec<StoredEffect>, Finding> {
    Ok(world.store.due(Some(workspace), now, PAGE_LIMIT).await?)
}

pub(super) async fn an_effect_is_due_from_its_moment_on(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let wake = effect(&world);
    put(&world, Family::Workspace(workspace), vec![(wake.clone(), NOON)]).await?;
    let early = due(&world, workspace, NOON.before(Duration::from_millis(1))).await?;
    same!(early, vec![], "a moment before");
    let found = due(&world, workspace, NOON).await?;
    same!(found.len(), 1, "effects at the moment");
    let wanted = StoredEffect {
        seq: found[0].seq,
        workspace: Some(workspace),
        effect: wake,
        attempts: 0,
        due_at: NOON,
    };
    same!(found[0], wanted, "the effect");
    Ok(())
}

pub(super) async fn due_effects_come_longest_due_first(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let later = NOON.after(HOUR);
    let effects: Vec<_> =
        [later, NOON, later, NOON].into_iter().map(|due_at| (effect(&world), due_at)).collect();
    put(&world, Family::Workspace(workspace), effects.clone()).await?;
    let found: Vec<_> =
        due(&world, workspace, later).await?.into_iter().map(|stored| stored.effect).collect();
    let wanted: Vec<_> = [1, 3, 0, 2].into_iter().map(|index: usize| effects[index].0.clone()).collect();
    same!(found, wanted, "the order");
    same!(world.store.due(Some(workspace), later, 3).await?.len(), 3, "three of four");
    Ok(())
}

pub(super) async fn a_settled_effect_is_gone(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    put(&world, Family::Workspace(workspace), vec![(effect(&world), NOON), (effect(&world), NOON)]).await?;
    let found = due(&world, workspace, NOON).await?;
    world.store.settle(&found[0]).await?;
    same!(due(&world, workspace, NOON).await?, found[1..].to_vec(), "the other one stays");
    world.store.settle(&found[0]).await?;
    world.store.postpone(&found[0], NOON).await?;
    same!(due(&world, workspace, NOON).await?, found[1..].to_vec(), "settling twice is no error");
    // A number that was given once never names another effect.
    put(&world, Family::Workspace(workspace), vec![(effect(&world), NOON)]).await?;
    world.store.settle(&found[0]).await?;
    same!(due(&world, workspace, NOON).await?.len(), 2, "effects");
    Ok(())
}

pub(super) async fn a_postponed_effect_counts_its_attempts(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    put(&world, Family::Workspace(workspace), vec![(effect(&world), NOON)]).await?;
    let first = due(&world, workspace, NOON).await?.remove(0);
    let later = NOON.after(HOUR);
    world.store.postpone(&first, later).await?;
    same!(due(&world, workspace, NOON).await?, vec![], "not before");
    let found = due(&world, workspace, later).await?;
    same!(found, vec![StoredEffect { attempts: 1, due_at: later, ..first }], "behind one attempt");
    world.store.postpone(&found[0], later).await?;
    same!(due(&world, workspace, later).await?[0].attempts, 2, "attempts");
    Ok(())
}

pub(super) async fn directory_effects_have_no_workspace(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    // Long before everything else in this store, so that it is on the first page.
    let long_ago = Timestamp::from_millis(1_000);
    let (mine, other) = (effect(&world), effect(&world));
    let workspace = world.id();
    put(&world, Family::Directory, vec![(mine.clone(), long_ago)]).await?;
    put(&world, Family::Workspace(workspace), vec![(other.clone(), long_ago)]).await?;
    ensure!(world.store.backlog().await? >= 2, "the backlog counts both");
    let found = world.store.due(None, long_ago, PAGE_LIMIT).await?;
    let of = |effect: &Effect| found.iter().find(|stored| stored.effect == *effect).cloned();
    let (Some(mine), Some(other)) = (of(&mine), of(&other)) else {
        return Err(Finding(format!("both outboxes are served, found {found:?}")));
    };
    same!((mine.workspace, other.workspace), (None, Some(workspace)), "the workspaces");
    world.store.postpone(&mine, long_ago).await?;
    world.store.settle(&other).await?;
    let found = world.store.due(None, long_ago, PAGE_LIMIT).await?;
    let stays = found.iter().find(|stored| stored.effect == mine.effect).map(|stored| stored.attempts);
    same!(stays, Some(1), "attempts of the directory's");
    ensure!(found.iter().all(|stored| stored.effect != other.effect), "the workspace's stays");
    world.store.settle(&mine).await?;
    let found = world.store.due(None, long_ago, PAGE_LIMIT).await?;
    ensure!(found.iter().all(|stored| stored.effect != mine.effect), "the directory's stays");
    Ok(())
}

pub(super) async fn settling_is_scoped(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    put(&world, Family::Workspace(workspace), vec![(effect(&world), NOON)]).await?;
    let found = due(&world, workspace, NOON).await?;
    let mut foreign = found[0].clone();
    foreign.workspace = Some(world.id());
    world.store.settle(&foreign).await?;
    world.store.postpone(&foreign, NOON.after(HOUR)).await?;
    same!(due(&world, workspace, NOON).await?, found, "the effect of another workspace");
    Ok(())
}

pub(super) async fn an_effect_waits_until_settled(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let wake = effect(&world);
    ensure!(!world.store.waiting(workspace, &wake).await?, "before");
    put(&world, Family::Workspace(workspace), vec![(wake.clone(), NOON.after(HOUR))]).await?;
    ensure!(world.store.waiting(workspace, &wake).await?, "it waits, due or not");
    ensure!(!world.store.waiting(workspace, &effect(&world)).await?, "another effect");
    let found = due(&world, workspace, NOON.after(HOUR)).await?;
    world.store.settle(&found[0]).await?;
    ensure!(!world.store.waiting(workspace, &wake).await?, "behind");
    Ok(())
}

pub(super) async fn expired_secrets_are_swept_in_bounded_steps(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let session = world.tree(account.workspace.id).await?.session;
    // Long before everything else in this store: no other case's records go.
    let (old, border) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
    let mut hashes = Vec::new();
    for expires_at in [old, old, old, border] {
        let mut token = world.token(&account, TokenKind::Access);
        let mut grant = world.grant(GrantKind::Recovery);
        let mut ticket = world.ticket(&session);
        (token.expires_at, grant.expires_at, ticket.expires_at) = (expires_at, expires_at, expires_at);
        hashes.push((token.hash, grant.hash, ticket.hash, expires_at));
        world.commit(&inserts(Family::Directory, [Put::Token(token), Put::Grant(grant)])).await?;
        world.commit(&inserts(Family::Workspace(session.workspace), [Put::Ticket(ticket)])).await?;
    }
    let first = world.store.sweep_expired(border, 2).await?;
    ensure!(first <= 6, "{first} records in a step of two of each");
    let mut swept = first;
    while swept < 9 {
        let more = world.store.sweep_expired(border, 2).await?;
        ensure!(more > 0, "the sweep ends behind {swept} of 9");
        swept += more;
    }
    for (token, grant, ticket, expires_at) in hashes {
        let there = expires_at == border;
        let what = format!("expired {expires_at}, swept before {border}");
        same!(world.store.principal(&token).await?.is_some(), there, "token {what}");
        same!(world.store.grant(&grant).await?.is_some(), there, "grant {what}");
        same!(world.store.ticket(&ticket).await?.is_some(), there, "ticket {what}");
    }
    Ok(())
}
