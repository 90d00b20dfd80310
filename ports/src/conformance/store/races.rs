use std::sync::Arc;

use futures_util::future::join_all;

use super::packs::packed;
use super::world::{NOON, World, deletes, inserts, naming, update};
use super::{Finding, Verdict, ensure, same};
use crate::record::{GrantKind, PackState, SnapshotState};
use crate::store::{
    Bump, ChangeSet, CommitError, Counter, Family, Guard, Key, Put, SingleUse, Spend, Store, Unique,
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

/// Commits both at once, a few times over, with what `of` makes of a fresh pair. Never do both win,
/// and never neither: whoever comes second finds its guard broken.
async fn duel<F: Future<Output = Result<(ChangeSet, ChangeSet), Finding>>>(
    of: impl Fn() -> F,
    store: &Arc<dyn Store>,
) -> Verdict {
    for round in 0..RACERS {
        let (first, second) = of().await?;
        // Whoever begins has a lead, so both orders are seen.
        let (one, two) = if round % 2 == 0 {
            futures_util::future::join(store.commit(&first), store.commit(&second)).await
        } else {
            let (two, one) = futures_util::future::join(store.commit(&second), store.commit(&first)).await;
            (one, two)
        };
        let broken = |answer: &Result<(), CommitError>| match answer {
            Ok(()) | Err(CommitError::Refused(_)) => false,
            Err(CommitError::Failed(error)) => error.kind() != crate::error::ErrorKind::Conflict,
        };
        ensure!(!broken(&one) && !broken(&two), "neither a refusal nor a conflict: {one:?}, {two:?}");
        ensure!(one.is_ok() != two.is_ok(), "one of two wins: {one:?}, {two:?}");
    }
    Ok(())
}

pub(super) async fn of_a_lease_and_a_sentence_one_wins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let pair = || async {
        let (tree, _, _) = packed(&world, world.id(), 0).await?;
        let family = Family::Workspace(tree.session.workspace);
        let (snapshot, pack) = (world.snapshot(&tree.session)?, world.pack(&tree.session, PackState::Live));
        world.commit(&inserts(family, [Put::Snapshot(snapshot.clone()), Put::Pack(pack.clone())])).await?;
        let mut lease = ChangeSet::new(family);
        lease.guards.push(Guard::Revision(Key::Pack(pack.id), 1));
        lease.puts.push(naming(&snapshot, &pack));
        let mut condemned = pack.clone();
        (condemned.state, condemned.condemned_at, condemned.revision) = (PackState::Condemned, Some(NOON), 2);
        let mut sentence = update(family, Put::Pack(condemned));
        sentence.guards.push(Guard::Unreferenced(vec![pack.id]));
        Ok((lease, sentence))
    };
    duel(pair, &world.store).await
}

pub(super) async fn of_completing_and_deleting_one_wins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let pair = || async {
        let (tree, mut snapshot, packs) = packed(&world, world.id(), 2).await?;
        let family = Family::Workspace(tree.session.workspace);
        (snapshot.state, snapshot.revision) = (SnapshotState::Complete, 2);
        let mut complete = update(family, Put::Snapshot(snapshot.clone()));
        complete.guards.push(Guard::Packed { snapshot: snapshot.id, packs: 2 });
        // The sweep of one that gave up: its snapshot goes, and a pack with it.
        let mut gone = deletes(family, [Key::Snapshot(snapshot.id), Key::Pack(packs[0].id)]);
        gone.guards.push(Guard::Revision(Key::Snapshot(snapshot.id), 1));
        Ok((complete, gone))
    };
    duel(pair, &world.store).await
}

pub(super) async fn of_a_revival_and_an_end_one_wins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let pair = || async {
        let (tree, snapshot, _) = packed(&world, world.id(), 0).await?;
        let family = Family::Workspace(tree.session.workspace);
        let pack = world.pack(&tree.session, PackState::Condemned);
        world.commit(&inserts(family, [Put::Pack(pack.clone())])).await?;
        let mut live = pack.clone();
        (live.state, live.condemned_at, live.revision) = (PackState::Live, None, 2);
        let mut revival = update(family, Put::Pack(live));
        revival.puts.push(naming(&snapshot, &pack));
        let mut end = deletes(family, [Key::Pack(pack.id)]);
        end.guards = vec![Guard::Revision(Key::Pack(pack.id), 1), Guard::Unreferenced(vec![pack.id])];
        Ok((revival, end))
    };
    duel(pair, &world.store).await
}

pub(super) async fn of_many_takers_one_begins(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let guard = Guard::Free(Unique::PendingSnapshot(tree.session.id));
    let mut changes = Vec::new();
    for _ in 0..RACERS {
        let mut snapshot = world.snapshot(&tree.session)?;
        snapshot.state = SnapshotState::Pending;
        let mut change = ChangeSet::new(Family::Workspace(snapshot.workspace));
        change.guards = vec![guard.clone(), Guard::Absent(Key::Snapshot(snapshot.id))];
        change.puts.push(Put::Snapshot(snapshot));
        changes.push(change);
    }
    same!(race(&world, &changes, &guard).await?, 1, "winners");
    Ok(())
}
