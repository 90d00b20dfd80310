use std::sync::Arc;

use super::world::{World, deletes, inserts};
use super::{Verdict, all_pages, same};
use crate::id::Id;
use crate::record::{Goal, SessionState, Workspace};
use crate::store::{Family, Key, Put, Store};

pub(super) async fn sessions_are_newest_first_in_pages(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let tree = world.tree(workspace).await?;
    let mut wanted = vec![tree.session];
    for _ in 0..6 {
        let session = world.session(&tree.release)?;
        world.commit(&inserts(Family::Workspace(workspace), [Put::Session(session.clone())])).await?;
        wanted.insert(0, session);
    }
    let found =
        all_pages(|after| world.store.sessions(workspace, after, super::STEP), |session| session.id).await?;
    same!(found, wanted, "the sessions");
    Ok(())
}

pub(super) async fn a_session_is_found_by_name(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let session = world.tree(world.id()).await?.session;
    let found = world.store.session_by_name(session.workspace, &session.name).await?;
    same!(found.as_ref(), Some(&session), "the session");
    same!(world.store.session_by_name(session.workspace, &world.name()?).await?, None, "no name");
    Ok(())
}

pub(super) async fn restless_sessions_have_a_machine_or_a_way_to_go(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let mut wanted = Vec::new();
    let mut all = Vec::new();
    for workspace in [world.id(), world.id()] {
        let tree = world.tree(workspace).await?;
        all.push(tree.session.id);
        for state in [
            SessionState::Created,
            SessionState::Starting,
            SessionState::Running,
            SessionState::Stopping,
            SessionState::Sleeping,
            SessionState::Failed,
            SessionState::Deleting,
        ] {
            for goal in [Goal::Run, Goal::Sleep, Goal::Delete] {
                let mut session = world.session(&tree.release)?;
                (session.state, session.goal) = (state, goal);
                world.commit(&inserts(Family::Workspace(workspace), [Put::Session(session.clone())])).await?;
                all.push(session.id);
                let rests =
                    matches!(state, SessionState::Created | SessionState::Sleeping | SessionState::Failed);
                if !(rests && goal == Goal::Sleep) {
                    wanted.push(session);
                }
            }
        }
    }
    let mut found =
        all_pages(|after| world.store.restless_sessions(after, super::STEP), |session| session.id).await?;
    found.retain(|session| all.contains(&session.id));
    same!(found, wanted, "the restless sessions, oldest first");
    for session in wanted {
        world.commit(&deletes(Family::Workspace(session.workspace), [Key::Session(session.id)])).await?;
    }
    Ok(())
}

pub(super) async fn a_ticket_is_found_by_its_secret_alone(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let session = world.tree(world.id()).await?.session;
    let mut ticket = world.ticket(&session);
    ticket.ssh_key = Some("ssh-ed25519 AAAA me@here".to_owned());
    world.commit(&inserts(Family::Workspace(session.workspace), [Put::Ticket(ticket.clone())])).await?;
    same!(world.store.ticket(&ticket.hash).await?, Some(ticket), "the ticket");
    Ok(())
}

pub(super) async fn deleting_a_session_takes_tickets_and_snapshots_along(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let family = Family::Workspace(workspace);
    let tree = world.tree(workspace).await?;
    let (gone, kept) = (tree.session, world.session(&tree.release)?);
    let (lost, ticket) = (world.ticket(&gone), world.ticket(&kept));
    let (lost_snapshot, snapshot) = (world.snapshot(&gone)?, world.snapshot(&kept)?);
    let puts = [
        Put::Session(kept),
        Put::Ticket(lost.clone()),
        Put::Ticket(ticket.clone()),
        Put::Snapshot(lost_snapshot.clone()),
        Put::Snapshot(snapshot.clone()),
    ];
    world.commit(&inserts(family, puts)).await?;
    world.commit(&deletes(family, [Key::Session(gone.id)])).await?;
    same!(world.store.ticket(&lost.hash).await?, None, "the deleted one's ticket");
    same!(world.store.snapshot(workspace, lost_snapshot.id).await?, None, "the deleted one's snapshot");
    same!(world.store.ticket(&ticket.hash).await?, Some(ticket), "the other's ticket");
    same!(world.store.snapshot(workspace, snapshot.id).await?, Some(snapshot), "the other's snapshot");
    Ok(())
}
