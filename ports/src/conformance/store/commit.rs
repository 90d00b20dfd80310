use std::sync::Arc;

use super::world::{NOON, World, audit, deletes, event, filled, inserts, update};
use super::{Verdict, ensure, same};
use crate::error::ErrorKind;
use crate::record::{
    BuildState, Effect, Failure, Goal, GrantKind, Role, SessionState, Sharing, SnapshotState, TokenKind,
    VersionState,
};
use crate::store::{
    Bump, ChangeSet, CommitError, Counter, EVENT_DATA_LIMIT, Family, GUARD_LIMIT, Guard, Key, Put, SingleUse,
    Spend, Store,
};

pub(super) async fn every_record_is_read_back_as_it_was_put(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let store = &world.store;
    let account = world.account().await?;
    same!(store.user(account.user.id).await?.as_ref(), Some(&account.user), "user");
    same!(store.workspace(account.workspace.id).await?.as_ref(), Some(&account.workspace), "workspace");
    let membership = store.membership(account.workspace.id, account.user.id).await?;
    same!(membership.as_ref(), Some(&account.membership), "membership");
    same!(store.sign_in(account.sign_in.id).await?.as_ref(), Some(&account.sign_in), "sign-in");
    let token = world.token(&account, TokenKind::Personal);
    let mut invite = world.grant(GrantKind::Invite);
    invite.workspace = Some(account.workspace.id);
    invite.user = Some(account.user.id);
    invite.sign_in = Some(account.sign_in.id);
    invite.role = Some(Role::Admin);
    let puts = [Put::Token(token.clone()), Put::Grant(invite.clone())];
    world.commit(&inserts(Family::Directory, puts)).await?;
    same!(store.token(account.user.id, token.id).await?.as_ref(), Some(&token), "token");
    same!(store.grant(&invite.hash).await?.as_ref(), Some(&invite), "grant");

    let workspace = account.workspace.id;
    let tree = world.tree(workspace).await?;
    same!(store.template(workspace, tree.template.id).await?.as_ref(), Some(&tree.template), "template");
    same!(store.version(workspace, tree.version.id).await?.as_ref(), Some(&tree.version), "version");
    same!(store.release(workspace, tree.release.id).await?.as_ref(), Some(&tree.release), "release");
    same!(store.session(workspace, tree.session.id).await?.as_ref(), Some(&tree.session), "session");
    let build = world.build(&tree.version);
    let chunk = world.chunk(&build, 1, 0, 262_144)?;
    let ticket = world.ticket(&tree.session);
    let snapshot = world.snapshot(&tree.session)?;
    let puts = [
        Put::Build(build.clone()),
        Put::LogChunk(chunk.clone()),
        Put::Ticket(ticket.clone()),
        Put::Snapshot(snapshot.clone()),
    ];
    world.commit(&inserts(Family::Workspace(workspace), puts)).await?;
    same!(store.build(workspace, build.id).await?.as_ref(), Some(&build), "build");
    same!(store.log_chunks(workspace, build.id, 1, 0, 10).await?.items, vec![chunk], "log chunk");
    same!(store.ticket(&ticket.hash).await?.as_ref(), Some(&ticket), "ticket");
    same!(store.snapshot(workspace, snapshot.id).await?.as_ref(), Some(&snapshot), "snapshot");
    Ok(())
}

pub(super) async fn a_record_is_written_over_by_its_next_revision(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let store = &world.store;
    let account = world.account().await?;
    let workspace = account.workspace.id;
    let tree = world.tree(workspace).await?;
    let failure = Some(Failure { code: "c".to_owned(), message: "it's".to_owned(), hint: "é".to_owned() });

    let mut user = account.user;
    (user.email_verified_at, user.revision) = (Some(NOON), 2);
    world.commit(&update(Family::Directory, Put::User(user.clone()))).await?;
    same!(store.user(user.id).await?, Some(user), "user");

    let mut member = account.membership;
    (member.role, member.revision) = (Role::Owner, 2);
    world.commit(&update(Family::Directory, Put::Membership(member.clone()))).await?;
    same!(store.membership(workspace, member.user).await?, Some(member), "membership");

    let family = Family::Workspace(workspace);
    let mut version = tree.version;
    filled(&mut version, &world.blob()?);
    (version.state, version.build, version.revision) = (VersionState::Ready, Some(world.id()), 2);
    world.commit(&update(family, Put::Version(version.clone()))).await?;
    same!(store.version(workspace, version.id).await?.as_ref(), Some(&version), "version");

    let mut session = tree.session;
    (session.state, session.goal, session.sharing) = (SessionState::Failed, Goal::Run, Sharing::Workspace);
    (session.epoch, session.force, session.revision) = (9_007_199_254_740_991, true, 2);
    (session.snapshot, session.restore, session.deadline) = (Some(world.id()), Some(world.id()), Some(NOON));
    session.failure.clone_from(&failure);
    session.name = world.name()?;
    world.commit(&update(family, Put::Session(session.clone()))).await?;
    same!(store.session(workspace, session.id).await?.as_ref(), Some(&session), "session");

    let mut build = world.build(&version);
    let mut snapshot = world.snapshot(&session)?;
    let puts = [Put::Build(build.clone()), Put::Snapshot(snapshot.clone())];
    world.commit(&inserts(family, puts)).await?;
    (build.state, build.step, build.failure) = (BuildState::Failed, Some("setup-1".to_owned()), failure);
    (build.deadline, build.started_at, build.finished_at) = (Some(NOON), Some(NOON), Some(NOON));
    (build.sealed_key, build.revision) = (Some("k".to_owned()), 2);
    world.commit(&update(family, Put::Build(build.clone()))).await?;
    same!(store.build(workspace, build.id).await?, Some(build), "build");
    (snapshot.state, snapshot.digest, snapshot.files) = (SnapshotState::Complete, "d".to_owned(), 7);
    snapshot.revision = 2;
    world.commit(&update(family, Put::Snapshot(snapshot.clone()))).await?;
    same!(store.snapshot(workspace, snapshot.id).await?, Some(snapshot), "snapshot");
    Ok(())
}

pub(super) async fn an_empty_change_is_no_error(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    world.commit(&ChangeSet::new(Family::Directory)).await?;
    world.commit(&ChangeSet::new(Family::Workspace(world.id()))).await
}

pub(super) async fn a_put_without_its_guard_is_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let template = world.template(workspace)?;
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.puts.push(Put::Template(template.clone()));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "no guard at all");
    change.guards.push(Guard::Absent(Key::Template(world.id())));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "the guard of another record");
    same!(world.store.template(workspace, template.id).await?, None, "nothing was put");
    Ok(())
}

pub(super) async fn a_revision_that_jumps_is_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let family = Family::Workspace(tree.template.workspace);
    for revision in [0, 1, 3, u64::MAX] {
        let mut template = tree.template.clone();
        template.revision = revision;
        let mut change = ChangeSet::new(family);
        change.guards.push(Guard::Revision(Key::Template(template.id), 1));
        change.puts.push(Put::Template(template));
        same!(world.failure(&change).await?, ErrorKind::Invalid, "revision {revision} behind 1");
    }
    Ok(())
}

pub(super) async fn a_record_of_the_other_family_is_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let template = world.template(world.id())?;
    let change = inserts(Family::Directory, [Put::Template(template.clone())]);
    same!(world.failure(&change).await?, ErrorKind::Invalid, "a template in a directory commit");
    let change = inserts(Family::Workspace(template.workspace), [Put::User(world.user()?)]);
    same!(world.failure(&change).await?, ErrorKind::Invalid, "a user in a workspace commit");
    let change = deletes(Family::Directory, [Key::Session(world.id())]);
    same!(world.failure(&change).await?, ErrorKind::Invalid, "a session's key in a directory commit");
    Ok(())
}

pub(super) async fn a_record_of_another_workspace_is_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let template = world.template(world.id())?;
    let own = world.id();
    let change = inserts(Family::Workspace(own), [Put::Template(template)]);
    same!(world.failure(&change).await?, ErrorKind::Invalid, "another workspace's template");
    let mut change = ChangeSet::new(Family::Workspace(own));
    change.audit.push((Some(world.id()), audit("a")));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "another workspace's audit line");
    Ok(())
}

pub(super) async fn more_guards_than_the_limit_are_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let mut change = ChangeSet::new(Family::Directory);
    change.guards = (0..=GUARD_LIMIT).map(|_| Guard::Absent(Key::User(world.id()))).collect();
    same!(world.failure(&change).await?, ErrorKind::Invalid, "{} guards", change.guards.len());
    Ok(())
}

pub(super) async fn as_many_guards_as_the_limit_hold(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let user = world.user()?;
    let mut change = inserts(Family::Directory, [Put::User(user.clone())]);
    while change.guards.len() < GUARD_LIMIT {
        change.guards.push(Guard::Absent(Key::User(world.id())));
    }
    world.commit(&change).await?;
    same!(world.store.user(user.id).await?, Some(user), "the user");
    Ok(())
}

pub(super) async fn a_spend_without_its_guard_is_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let grant = world.grant(GrantKind::Recovery);
    world.commit(&inserts(Family::Directory, [Put::Grant(grant.clone())])).await?;
    let mut change = ChangeSet::new(Family::Directory);
    change.spends.push(Spend { what: SingleUse::Grant(grant.id), at: NOON });
    same!(world.failure(&change).await?, ErrorKind::Invalid, "a spend");
    same!(world.store.grant(&grant.hash).await?, Some(grant), "it is not spent");
    Ok(())
}

pub(super) async fn a_record_changed_twice_is_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let template = world.template(workspace)?;
    let mut change = inserts(Family::Workspace(workspace), [Put::Template(template.clone())]);
    change.deletes.push(Key::Template(template.id));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "put and deleted");
    change.deletes.clear();
    change.puts.push(Put::Template(template));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "put twice");
    Ok(())
}

pub(super) async fn an_event_over_its_limit_is_invalid(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    let mut large = event("large");
    // Two quotes are part of the text.
    large.data = serde_json::Value::String("x".repeat(EVENT_DATA_LIMIT - 2));
    change.events.push(large);
    world.commit(&change).await?;
    change.events[0].data = serde_json::Value::String("x".repeat(EVENT_DATA_LIMIT - 1));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "one byte more");
    Ok(())
}

pub(super) async fn a_directory_commit_has_no_events_or_counters(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let mut change = ChangeSet::new(Family::Directory);
    change.events.push(event("e"));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "an event");
    let mut change = ChangeSet::new(Family::Directory);
    change.bumps.push(Bump { counter: Counter::Sessions, by: 1 });
    same!(world.failure(&change).await?, ErrorKind::Invalid, "a bump");
    let mut change = ChangeSet::new(Family::Directory);
    change.guards.push(Guard::Below { counter: Counter::Sessions, by: 1, limit: 1 });
    same!(world.failure(&change).await?, ErrorKind::Invalid, "a quota");
    Ok(())
}

pub(super) async fn records_without_revision_are_only_ever_inserted(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let grant = world.grant(GrantKind::Recovery);
    let change = inserts(Family::Directory, [Put::Grant(grant.clone())]);
    world.commit(&change).await?;
    let mut again = grant.clone();
    again.hash = world.secret();
    let change = inserts(Family::Directory, [Put::Grant(again)]);
    same!(world.failure(&change).await?, ErrorKind::Conflict, "the same grant again");
    same!(world.store.grant(&grant.hash).await?, Some(grant.clone()), "the first one stays");
    let tree = world.tree(world.id()).await?;
    let mut release = tree.release.clone();
    release.number = 2;
    let change = inserts(Family::Workspace(release.workspace), [Put::Release(release)]);
    same!(world.failure(&change).await?, ErrorKind::Conflict, "the same release again");
    let mut change = ChangeSet::new(Family::Directory);
    change.guards.push(Guard::Revision(Key::Grant(grant.id), 1));
    same!(world.failure(&change).await?, ErrorKind::Invalid, "a revision of what has none");
    Ok(())
}

pub(super) async fn a_secret_exists_once(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let first = world.grant(GrantKind::Recovery);
    let mut second = world.grant(GrantKind::Refresh);
    second.hash = first.hash;
    world.commit(&inserts(Family::Directory, [Put::Grant(first)])).await?;
    let change = inserts(Family::Directory, [Put::Grant(second)]);
    same!(world.failure(&change).await?, ErrorKind::Conflict, "two grants of one secret");
    Ok(())
}

pub(super) async fn a_missing_parent_is_a_conflict(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let template = world.template(workspace)?;
    let version = world.version(&template)?;
    let release = world.release(&version, 1);
    let session = world.session(&release)?;
    for put in [
        Put::Version(version.clone()),
        Put::Build(world.build(&version)),
        Put::Release(release),
        Put::Ticket(world.ticket(&session)),
        Put::Snapshot(world.snapshot(&session)?),
        Put::Session(session),
    ] {
        let change = inserts(Family::Workspace(workspace), [put]);
        same!(world.failure(&change).await?, ErrorKind::Conflict, "{:?}", change.puts);
    }
    // In another workspace is not there either.
    world.commit(&inserts(Family::Workspace(workspace), [Put::Template(template)])).await?;
    let mut foreign = version;
    foreign.workspace = world.id();
    let change = inserts(Family::Workspace(foreign.workspace), [Put::Version(foreign)]);
    same!(world.failure(&change).await?, ErrorKind::Conflict, "a version of a template elsewhere");
    let mut token = world.token(&world.account().await?, TokenKind::Access);
    token.sign_in = world.id();
    let change = inserts(Family::Directory, [Put::Token(token)]);
    same!(world.failure(&change).await?, ErrorKind::Conflict, "a token without sign-in");
    Ok(())
}

pub(super) async fn a_parent_in_use_is_not_deleted(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let workspace = tree.template.workspace;
    let family = Family::Workspace(workspace);
    for key in [Key::Template(tree.template.id), Key::Version(tree.version.id), Key::Release(tree.release.id)]
    {
        same!(world.failure(&deletes(family, [key])).await?, ErrorKind::Conflict, "{key:?}");
    }
    // From the leaves to the root it goes, in one commit.
    let keys = [
        Key::Session(tree.session.id),
        Key::Release(tree.release.id),
        Key::Version(tree.version.id),
        Key::Template(tree.template.id),
    ];
    world.commit(&deletes(family, keys)).await?;
    same!(world.store.template(workspace, tree.template.id).await?, None, "the template");
    same!(world.store.session(workspace, tree.session.id).await?, None, "the session");
    Ok(())
}

pub(super) async fn deleting_what_is_not_there_is_no_error(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    world.commit(&deletes(Family::Directory, [Key::Token(world.id()), Key::Grant(world.id())])).await?;
    let family = Family::Workspace(world.id());
    world.commit(&deletes(family, [Key::Template(world.id()), Key::Session(world.id())])).await
}

pub(super) async fn the_store_answers_a_ping(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    world.store.ping().await?;
    let workspace = world.id();
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.outbox.push((Effect::RunBuild { build: world.id() }, NOON));
    let answer = world.store.commit(&change).await;
    ensure!(!matches!(answer, Err(CommitError::Refused(_))), "a change without guards was refused");
    Ok(())
}
