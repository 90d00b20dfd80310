use std::sync::Arc;

use futures_util::future::join_all;

use super::world::{NOON, World, inserts, update};
use super::{Finding, Verdict, same};
use crate::record::GrantKind;
use crate::store::{
    Bump, ChangeSet, CommitError, Counter, Family, Guard, Put, SingleUse, Spend, Store, Unique,
};

const RACERS: usize = 8;

/// Commits all at once; answers how many won. Whoever does not is refused by the wanted guard.
async fn race(world: &World, changes: &[ChangeSet], guard: &Guard) -> Result<usize, Finding> {
    let mut wins = 0;
    for answer in join_all(changes.iter().map(|change| world.store.commit(change))).await {
        match answer {
            Ok(()) => wins += 1,
            Err(CommitError::Refused(refused)) => same!(refused, *guard, "the guard"),
            Err(CommitError::Failed(error)) => return Err(error.into()),
        }
    }
    Ok(wins)
}

pub(super) async fn of_two_writers_of_one_revision_one_wins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let mut changes = Vec::new();
    for _ in 0..RACERS {
        let mut template = tree.template.clone();
        (template.name, template.revision) = (world.name()?, 2);
        changes.push(update(Family::Workspace(template.workspace), Put::Template(template)));
    }
    let guard = changes[0].guards[0].clone();
    same!(race(&world, &changes, &guard).await?, 1, "winners");
    let stored = world.store.template(tree.template.workspace, tree.template.id).await?;
    same!(stored.map(|template| template.revision), Some(2), "the revision");
    Ok(())
}

pub(super) async fn of_many_takers_of_a_name_one_wins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let name = world.name()?;
    let guard = Guard::Free(Unique::TemplateName(name.clone()));
    let mut changes = Vec::new();
    for _ in 0..RACERS {
        let mut template = world.template(workspace)?;
        template.name = name.clone();
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        change.guards.push(guard.clone());
        change.puts.push(Put::Template(template));
        changes.push(change);
    }
    same!(race(&world, &changes, &guard).await?, 1, "winners");
    same!(world.store.templates(workspace, None, 10).await?.items.len(), 1, "templates");
    Ok(())
}

async fn spend_race(world: &World, family: Family, what: SingleUse) -> Verdict {
    let guard = Guard::Unspent(what, NOON);
    let mut change = ChangeSet::new(family);
    change.guards.push(guard.clone());
    change.spends.push(Spend { what, at: NOON });
    same!(race(world, &vec![change; RACERS], &guard).await?, 1, "winners");
    Ok(())
}

pub(super) async fn of_many_spenders_of_a_grant_one_wins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let grant = world.grant(GrantKind::Refresh);
    world.commit(&inserts(Family::Directory, [Put::Grant(grant.clone())])).await?;
    spend_race(&world, Family::Directory, SingleUse::Grant(grant.id)).await?;
    let stored = world.store.grant(&grant.hash).await?;
    same!(stored.and_then(|grant| grant.spent_at), Some(NOON), "when it was spent");
    Ok(())
}

pub(super) async fn of_many_spenders_of_a_ticket_one_wins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let ticket = world.ticket(&tree.session);
    let family = Family::Workspace(ticket.workspace);
    world.commit(&inserts(family, [Put::Ticket(ticket.clone())])).await?;
    spend_race(&world, family, SingleUse::Ticket(ticket.id)).await?;
    let stored = world.store.ticket(&ticket.hash).await?;
    same!(stored.and_then(|ticket| ticket.spent_at), Some(NOON), "when it was spent");
    Ok(())
}

async fn quota_race(world: &World, limit: u64) -> Verdict {
    let guard = Guard::Below { counter: Counter::Running, by: 1, limit };
    let mut change = ChangeSet::new(Family::Workspace(world.id()));
    change.guards.push(guard.clone());
    change.bumps.push(Bump { counter: Counter::Running, by: 1 });
    let wins = race(world, &vec![change; RACERS], &guard).await?;
    same!(u64::try_from(wins).unwrap_or(u64::MAX), limit, "winners");
    Ok(())
}

pub(super) async fn a_quota_of_one_is_taken_once(store: Arc<dyn Store>, seed: u64) -> Verdict {
    quota_race(&World::new(store, seed), 1).await
}

pub(super) async fn a_quota_is_never_exceeded(store: Arc<dyn Store>, seed: u64) -> Verdict {
    quota_race(&World::new(store, seed), 5).await
}

pub(super) async fn no_bump_is_lost(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let mut change = ChangeSet::new(Family::Workspace(world.id()));
    change.bumps.push(Bump { counter: Counter::Sessions, by: 3 });
    for answer in join_all((0..RACERS).map(|_| world.store.commit(&change))).await {
        answer?;
    }
    let total = 3 * u64::try_from(RACERS).unwrap_or(u64::MAX);
    change.bumps.clear();
    change.guards.push(Guard::Below { counter: Counter::Sessions, by: 0, limit: total });
    world.commit(&change).await?;
    change.guards = vec![Guard::Below { counter: Counter::Sessions, by: 0, limit: total - 1 }];
    world.refusal(&change).await.map(drop)
}
