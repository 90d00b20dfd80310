use std::sync::Arc;

use super::world::{NOON, World, deletes, inserts, update};
use super::{Verdict, ensure, same};
use crate::id::Id;
use crate::record::{Effect, TokenKind, Workspace};
use crate::store::{ChangeSet, Family, Guard, Key, Put, SingleUse, Spend, Store};

pub(super) async fn another_workspaces_ids_are_not_found(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let store = &world.store;
    let (here, there): (Id<Workspace>, Id<Workspace>) = (world.id(), world.id());
    let tree = world.tree(here).await?;
    let build = world.build(&tree.version);
    let snapshot = world.snapshot(&tree.session)?;
    let chunk = world.chunk(&build, 1, 0, 10)?;
    let puts = [Put::Build(build.clone()), Put::LogChunk(chunk), Put::Snapshot(snapshot.clone())];
    world.commit(&inserts(Family::Workspace(here), puts)).await?;
    same!(store.template(there, tree.template.id).await?, None, "template");
    same!(store.template_by_name(there, &tree.template.name).await?, None, "template by name");
    same!(store.version(there, tree.version.id).await?, None, "version");
    let by_label = store.version_by_label(there, tree.template.id, &tree.version.label).await?;
    same!(by_label, None, "version by label");
    same!(store.build(there, build.id).await?, None, "build");
    same!(store.log_chunks(there, build.id, 1, 0, 10).await?.items.len(), 0, "log");
    same!(store.release(there, tree.release.id).await?, None, "release");
    same!(store.session(there, tree.session.id).await?, None, "session");
    same!(store.session_by_name(there, &tree.session.name).await?, None, "session by name");
    same!(store.snapshot(there, snapshot.id).await?, None, "snapshot");
    Ok(())
}

pub(super) async fn another_workspaces_lists_are_empty(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let store = &world.store;
    let (here, there): (Id<Workspace>, Id<Workspace>) = (world.id(), world.id());
    let tree = world.tree(here).await?;
    let build = world.build(&tree.version);
    let effect = Effect::RunBuild { build: build.id };
    let snapshot = world.snapshot(&tree.session)?;
    let mut change = inserts(Family::Workspace(here), [Put::Build(build), Put::Snapshot(snapshot)]);
    change.events.push(super::world::event("e"));
    change.audit.push((None, super::world::audit("a")));
    change.outbox.push((effect.clone(), NOON));
    world.commit(&change).await?;
    same!(store.templates(there, None, 10).await?.items.len(), 0, "templates");
    same!(store.versions(there, tree.template.id, None, 10).await?.items.len(), 0, "versions");
    same!(store.builds(there, None, 10).await?.items.len(), 0, "builds");
    same!(store.releases(there, None, None, 10).await?.items.len(), 0, "releases");
    let of_template = store.releases(there, Some(tree.template.id), None, 10).await?;
    same!(of_template.items.len(), 0, "releases of the template");
    same!(store.sessions(there, None, 10).await?.items.len(), 0, "sessions");
    same!(store.snapshots(there, tree.session.id, None, 10).await?.items.len(), 0, "snapshots");
    same!(store.events(there, 0, 10).await?.len(), 0, "events");
    same!(store.last_event(there).await?, 0, "last event");
    same!(store.audit(there, None, 10).await?.items.len(), 0, "audit");
    same!(store.due(Some(there), NOON, 10).await?.len(), 0, "effects");
    ensure!(!store.waiting(there, &effect).await?, "the effect waits elsewhere");
    ensure!(store.waiting(here, &effect).await?, "the effect waits here");
    Ok(())
}

pub(super) async fn a_put_never_touches_another_tenants_row(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let here: Id<Workspace> = world.id();
    let victim = world.tree(here).await?.template;
    let mut forged = victim.clone();
    (forged.workspace, forged.name, forged.revision) = (world.id(), world.name()?, 2);
    let there = Family::Workspace(forged.workspace);
    let refused = world.refusal(&update(there, Put::Template(forged.clone()))).await?;
    same!(refused, Guard::Revision(Key::Template(victim.id), 1), "the guard");
    // Even with the same id, what is inserted is another row.
    forged.revision = 1;
    world.commit(&inserts(there, [Put::Template(forged.clone())])).await?;
    same!(world.store.template(here, victim.id).await?.as_ref(), Some(&victim), "the victim");
    forged.revision = 2;
    world.commit(&update(there, Put::Template(forged))).await?;
    same!(world.store.template(here, victim.id).await?, Some(victim), "the victim behind an update");
    Ok(())
}

pub(super) async fn a_delete_never_touches_another_tenants_row(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let session = world.tree(world.id()).await?.session;
    let there = Family::Workspace(world.id());
    world.commit(&deletes(there, [Key::Session(session.id)])).await?;
    same!(world.store.session(session.workspace, session.id).await?, Some(session), "the session");
    Ok(())
}

pub(super) async fn a_spend_never_touches_another_tenants_ticket(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let session = world.tree(world.id()).await?.session;
    let ticket = world.ticket(&session);
    world.commit(&inserts(Family::Workspace(session.workspace), [Put::Ticket(ticket.clone())])).await?;
    let what = SingleUse::Ticket(ticket.id);
    let mut change = ChangeSet::new(Family::Workspace(world.id()));
    change.guards.push(Guard::Unspent(what, NOON));
    change.spends.push(Spend { what, at: NOON });
    same!(world.refusal(&change).await?, Guard::Unspent(what, NOON), "the guard");
    same!(world.store.ticket(&ticket.hash).await?, Some(ticket), "the ticket");
    Ok(())
}

pub(super) async fn another_users_token_is_not_found(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let (own, other) = (world.account().await?, world.account().await?);
    let token = world.token(&own, TokenKind::Personal);
    world.commit(&inserts(Family::Directory, [Put::Token(token.clone())])).await?;
    same!(world.store.token(other.user.id, token.id).await?, None, "by another user");
    let listed = world.store.tokens(other.user.id, own.workspace.id, None, 10).await?;
    same!(listed.items.len(), 0, "in another user's list");
    same!(world.store.token(own.user.id, token.id).await?, Some(token), "by its user");
    Ok(())
}
