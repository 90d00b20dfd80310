use std::sync::Arc;
use std::time::Duration;

use super::world::{HOUR, NOON, World, audit, deletes, event, inserts, update};
use super::{Finding, Verdict, ensure, same};
use crate::id::Id;
use crate::record::{Effect, GrantKind, Session, Workspace};
use crate::store::{Bump, ChangeSet, Counter, Family, Guard, Key, Put, SingleUse, Spend, Store, Unique};

pub(super) async fn a_stale_revision_is_refused(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let family = Family::Workspace(tree.template.workspace);
    let mut template = tree.template;
    (template.archived_at, template.revision) = (Some(NOON), 2);
    world.commit(&update(family, Put::Template(template.clone()))).await?;
    let mut stale = template.clone();
    stale.archived_at = None;
    let refused = world.refusal(&update(family, Put::Template(stale))).await?;
    same!(refused, Guard::Revision(Key::Template(template.id), 1), "the guard");
    same!(world.store.template(template.workspace, template.id).await?, Some(template), "the template");
    Ok(())
}

pub(super) async fn a_revision_of_what_is_not_there_is_refused(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let directory = [
        Key::User(world.id()),
        Key::Workspace(world.id()),
        Key::Membership(workspace, world.id()),
        Key::SignIn(world.id()),
        Key::Token(world.id()),
    ];
    let data = [
        Key::Template(world.id()),
        Key::Version(world.id()),
        Key::Build(world.id()),
        Key::Session(world.id()),
        Key::Snapshot(world.id()),
    ];
    for (family, keys) in [(Family::Directory, directory), (Family::Workspace(workspace), data)] {
        for key in keys {
            let mut change = ChangeSet::new(family);
            change.guards.push(Guard::Revision(key, 1));
            same!(world.refusal(&change).await?, Guard::Revision(key, 1), "{key:?}");
        }
    }
    Ok(())
}

pub(super) async fn absent_refuses_what_is_there(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let grant = world.grant(GrantKind::Bootstrap);
    world.commit(&inserts(Family::Directory, [Put::Grant(grant.clone())])).await?;
    let workspace = account.workspace.id;
    let tree = world.tree(workspace).await?;
    for (family, key) in [
        (Family::Directory, Key::User(account.user.id)),
        (Family::Directory, Key::Workspace(workspace)),
        (Family::Directory, Key::Membership(workspace, account.user.id)),
        (Family::Directory, Key::SignIn(account.sign_in.id)),
        (Family::Directory, Key::Grant(grant.id)),
        (Family::Workspace(workspace), Key::Template(tree.template.id)),
        (Family::Workspace(workspace), Key::Version(tree.version.id)),
        (Family::Workspace(workspace), Key::Release(tree.release.id)),
        (Family::Workspace(workspace), Key::Session(tree.session.id)),
    ] {
        let mut change = ChangeSet::new(family);
        change.guards.push(Guard::Absent(key));
        same!(world.refusal(&change).await?, Guard::Absent(key), "{key:?}");
    }
    Ok(())
}

pub(super) async fn free_refuses_a_taken_address(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let mut other = world.user()?;
    other.email = account.user.email.clone();
    let taken = Guard::Free(Unique::Email(other.email.clone()));
    let mut change = ChangeSet::new(Family::Directory);
    change.guards.push(taken.clone());
    change.puts.push(Put::User(other.clone()));
    same!(world.refusal(&change).await?, taken, "the guard");
    same!(world.store.user(other.id).await?, None, "the second user");
    other.email = world.user()?.email;
    let mut change = ChangeSet::new(Family::Directory);
    change.guards.push(Guard::Free(Unique::Email(other.email.clone())));
    change.puts.push(Put::User(other));
    world.commit(&change).await
}

pub(super) async fn free_refuses_a_taken_workspace_name(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let mut other = world.workspace()?;
    other.name = account.workspace.name;
    let taken = Guard::Free(Unique::WorkspaceName(other.name.clone()));
    let mut change = ChangeSet::new(Family::Directory);
    change.guards.push(taken.clone());
    change.puts.push(Put::Workspace(other));
    same!(world.refusal(&change).await?, taken, "the guard");
    Ok(())
}

pub(super) async fn free_refuses_a_taken_template_name(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let taken = Guard::Free(Unique::TemplateName(tree.template.name.clone()));
    let mut change = ChangeSet::new(Family::Workspace(tree.template.workspace));
    change.guards.push(taken.clone());
    same!(world.refusal(&change).await?, taken, "the guard");
    change.family = Family::Workspace(world.id());
    world.commit(&change).await
}

pub(super) async fn free_refuses_a_taken_version_label(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let taken = Guard::Free(Unique::VersionLabel(tree.template.id, tree.version.label.clone()));
    let mut change = ChangeSet::new(Family::Workspace(tree.template.workspace));
    change.guards.push(taken.clone());
    same!(world.refusal(&change).await?, taken, "the guard");
    change.guards = vec![Guard::Free(Unique::VersionLabel(world.id(), tree.version.label))];
    world.commit(&change).await
}

pub(super) async fn free_refuses_a_taken_session_name(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let taken = Guard::Free(Unique::SessionName(tree.session.name.clone()));
    let mut change = ChangeSet::new(Family::Workspace(tree.session.workspace));
    change.guards.push(taken.clone());
    same!(world.refusal(&change).await?, taken, "the guard");
    change.family = Family::Workspace(world.id());
    world.commit(&change).await
}

pub(super) async fn a_freed_name_can_be_taken_again(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let family = Family::Workspace(tree.session.workspace);
    let name = tree.session.name.clone();
    world.commit(&deletes(family, [Key::Session(tree.session.id)])).await?;
    let mut second = world.session(&tree.release)?;
    second.name = name.clone();
    let mut change = ChangeSet::new(family);
    change.guards.push(Guard::Free(Unique::SessionName(name.clone())));
    change.puts.push(Put::Session(second.clone()));
    world.commit(&change).await?;
    (second.name, second.revision) = (world.name()?, 2);
    world.commit(&update(family, Put::Session(second))).await?;
    let mut change = ChangeSet::new(family);
    change.guards.push(Guard::Free(Unique::SessionName(name)));
    world.commit(&change).await
}

pub(super) async fn the_first_user_is_the_first(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    world.account().await?;
    let mut change = inserts(Family::Directory, [Put::User(world.user()?)]);
    change.guards.push(Guard::Free(Unique::FirstUser));
    same!(world.refusal(&change).await?, Guard::Free(Unique::FirstUser), "the guard");
    Ok(())
}

/// Spends a grant and a ticket at `now`.
async fn spend_both(
    world: &World,
    now: crate::time::Timestamp,
    past: Duration,
) -> Result<[ChangeSet; 2], Finding> {
    let grant = world.grant(GrantKind::Recovery);
    world.commit(&inserts(Family::Directory, [Put::Grant(grant.clone())])).await?;
    let tree = world.tree(world.id()).await?;
    let ticket = world.ticket(&tree.session);
    let family = Family::Workspace(ticket.workspace);
    world.commit(&inserts(family, [Put::Ticket(ticket.clone())])).await?;
    let spend = |family, what| {
        let mut change = ChangeSet::new(family);
        change.guards.push(Guard::Unspent(what, now.after(past)));
        change.spends.push(Spend { what, at: now });
        change
    };
    Ok([spend(Family::Directory, SingleUse::Grant(grant.id)), spend(family, SingleUse::Ticket(ticket.id))])
}

pub(super) async fn unspent_refuses_what_is_spent(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    for change in spend_both(&world, NOON, Duration::ZERO).await? {
        world.commit(&change).await?;
        same!(world.refusal(&change).await?, change.guards[0], "the second time");
    }
    Ok(())
}

pub(super) async fn unspent_refuses_what_has_expired(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    for change in spend_both(&world, NOON, HOUR).await? {
        same!(world.refusal(&change).await?, change.guards[0], "at the moment of expiry");
    }
    for change in spend_both(&world, NOON, HOUR - Duration::from_millis(1)).await? {
        world.commit(&change).await?;
    }
    Ok(())
}

pub(super) async fn unspent_refuses_what_is_not_there(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    for (family, what) in [
        (Family::Directory, SingleUse::Grant(world.id())),
        (Family::Workspace(world.id()), SingleUse::Ticket(world.id())),
    ] {
        let mut change = ChangeSet::new(family);
        change.guards.push(Guard::Unspent(what, NOON));
        same!(world.refusal(&change).await?, change.guards[0], "{what:?}");
    }
    Ok(())
}

pub(super) async fn below_refuses_past_the_limit(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let mut change = ChangeSet::new(Family::Workspace(world.id()));
    change.guards.push(Guard::Below { counter: Counter::Running, by: 2, limit: 5 });
    change.bumps.push(Bump { counter: Counter::Running, by: 2 });
    world.commit(&change).await?;
    world.commit(&change).await?;
    same!(world.refusal(&change).await?, change.guards[0], "4 and 2 of 5");
    change.guards = vec![Guard::Below { counter: Counter::Running, by: 1, limit: 5 }];
    change.bumps = vec![Bump { counter: Counter::Running, by: 1 }];
    world.commit(&change).await?;
    same!(world.refusal(&change).await?, change.guards[0], "5 and 1 of 5");
    Ok(())
}

pub(super) async fn below_takes_any_limit(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let mut change = ChangeSet::new(Family::Workspace(world.id()));
    change.guards.push(Guard::Below { counter: Counter::Templates, by: 1, limit: 0 });
    same!(world.refusal(&change).await?, change.guards[0], "a limit of nothing");
    change.guards = vec![Guard::Below { counter: Counter::Templates, by: 1, limit: u64::MAX }];
    world.commit(&change).await?;
    change.guards = vec![Guard::Below { counter: Counter::Templates, by: 0, limit: 0 }];
    world.commit(&change).await
}

pub(super) async fn a_counter_never_goes_below_zero(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let family = Family::Workspace(world.id());
    for by in [-3, 2, -7, 1] {
        let mut change = ChangeSet::new(family);
        change.bumps.push(Bump { counter: Counter::Builds, by });
        world.commit(&change).await?;
    }
    // It is one now: below two there is place for one, and not for two.
    let mut change = ChangeSet::new(family);
    change.guards.push(Guard::Below { counter: Counter::Builds, by: 1, limit: 2 });
    world.commit(&change).await?;
    change.guards = vec![Guard::Below { counter: Counter::Builds, by: 2, limit: 2 }];
    world.refusal(&change).await.map(drop)
}

pub(super) async fn counters_are_apart(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let (here, template) = (world.id(), world.id());
    let mut change = ChangeSet::new(Family::Workspace(here));
    change.bumps.push(Bump { counter: Counter::Versions(template), by: 1 });
    world.commit(&change).await?;
    let full = |workspace, counter| {
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        change.guards.push(Guard::Below { counter, by: 1, limit: 1 });
        change
    };
    world.refusal(&full(here, Counter::Versions(template))).await?;
    world.commit(&full(here, Counter::Versions(world.id()))).await?;
    world.commit(&full(world.id(), Counter::Versions(template))).await?;
    for counter in [Counter::Templates, Counter::Sessions, Counter::Running, Counter::Builds] {
        world.commit(&full(here, counter)).await?;
    }
    Ok(())
}

pub(super) async fn guards_see_the_state_before_the_change(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let tree = world.tree(world.id()).await?;
    let family = Family::Workspace(tree.session.workspace);
    // The name is freed by this very commit, which is too late for its guard.
    let mut change = deletes(family, [Key::Session(tree.session.id)]);
    change.guards.push(Guard::Free(Unique::SessionName(tree.session.name)));
    world.refusal(&change).await?;
    let mut change = ChangeSet::new(family);
    change.guards.push(Guard::Below { counter: Counter::Sessions, by: 1, limit: 1 });
    change.bumps.push(Bump { counter: Counter::Sessions, by: 1 });
    world.commit(&change).await
}

/// A change of everything a commit can change, and a look that finds no trace of it.
struct Everything {
    change: ChangeSet,
    kept: Session,
}

impl Everything {
    async fn new(world: &World, workspace: Id<Workspace>) -> Result<Self, Finding> {
        let tree = world.tree(workspace).await?;
        let mut change = inserts(Family::Workspace(workspace), [Put::Template(world.template(workspace)?)]);
        let mut renamed = tree.template;
        (renamed.name, renamed.revision) = (world.name()?, 2);
        change.guards.push(Guard::Revision(Key::Template(renamed.id), 1));
        change.puts.push(Put::Template(renamed));
        change.bumps.push(Bump { counter: Counter::Templates, by: 1 });
        change.deletes.push(Key::Session(tree.session.id));
        change.outbox.push((Effect::WakeSession { session: tree.session.id }, NOON));
        change.events.push(event("e"));
        change.audit.push((None, audit("a")));
        Ok(Self { change, kept: tree.session })
    }

    async fn left_nothing(&self, world: &World) -> Verdict {
        let workspace = self.kept.workspace;
        let templates = world.store.templates(workspace, None, 200).await?.items;
        ensure!(templates.iter().all(|template| template.revision == 1), "a template was written over");
        for put in &self.change.puts {
            if let Put::Template(template) = put {
                let found = templates.iter().any(|found| found.name == template.name);
                ensure!(!found, "the template {} was put", template.name);
            }
        }
        let session = world.store.session(workspace, self.kept.id).await?;
        same!(session.as_ref(), Some(&self.kept), "the session that should not be deleted");
        for (effect, _) in &self.change.outbox {
            ensure!(!world.store.waiting(workspace, effect).await?, "an effect was kept");
        }
        same!(world.store.last_event(workspace).await?, 0, "events");
        same!(world.store.audit(workspace, None, 1).await?.items.len(), 0, "audit lines");
        let mut counted = ChangeSet::new(Family::Workspace(workspace));
        counted.guards.push(Guard::Below { counter: Counter::Templates, by: 0, limit: 0 });
        world.commit(&counted).await
    }
}

/// One guard of each kind that does not hold.
async fn failing(world: &World, workspace: Id<Workspace>) -> Result<Vec<Guard>, Finding> {
    let tree = world.tree(workspace).await?;
    let mut expired = world.ticket(&tree.session);
    expired.expires_at = NOON;
    world.commit(&inserts(Family::Workspace(workspace), [Put::Ticket(expired.clone())])).await?;
    Ok(vec![
        Guard::Revision(Key::Template(tree.template.id), 7),
        Guard::Revision(Key::Session(world.id()), 1),
        Guard::Absent(Key::Session(tree.session.id)),
        Guard::Free(Unique::TemplateName(tree.template.name)),
        Guard::Free(Unique::VersionLabel(tree.template.id, tree.version.label)),
        Guard::Free(Unique::SessionName(tree.session.name)),
        Guard::Unspent(SingleUse::Ticket(expired.id), NOON),
        Guard::Below { counter: Counter::Sessions, by: 2, limit: 1 },
    ])
}

pub(super) async fn any_failing_guard_rolls_everything_back(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let everything = Everything::new(&world, workspace).await?;
    for guard in failing(&world, workspace).await? {
        let mut change = everything.change.clone();
        change.guards.insert(0, guard.clone());
        same!(world.refusal(&change).await?, guard, "first among {}", change.guards.len());
        everything.left_nothing(&world).await?;
    }
    world.commit(&everything.change).await
}

pub(super) async fn a_failing_guard_behind_others_is_the_one_that_is_named(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let everything = Everything::new(&world, workspace).await?;
    for guard in failing(&world, workspace).await? {
        let mut change = everything.change.clone();
        while change.guards.len() < 12 {
            change.guards.push(Guard::Absent(Key::Build(world.id())));
        }
        change.guards.push(guard.clone());
        same!(world.refusal(&change).await?, guard, "last among {}", change.guards.len());
        everything.left_nothing(&world).await?;
    }
    world.commit(&everything.change).await
}
