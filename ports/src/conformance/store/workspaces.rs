use std::sync::Arc;

use super::world::{NOON, World, inserts, membership};
use super::{Verdict, all_pages, same};
use crate::conformance::ensure;
use crate::record::GrantKind;
use crate::store::{ChangeSet, Family, Guard, Put, SingleUse, Spend, Store};

pub(super) async fn a_workspace_is_found_by_name(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.account().await?.workspace;
    same!(world.store.workspace_by_name(&workspace.name).await?.as_ref(), Some(&workspace), "the workspace");
    same!(world.store.workspace_by_name(&world.name()?).await?, None, "no name");
    Ok(())
}

pub(super) async fn members_are_ordered_by_user_in_pages(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    world.account().await?;
    let mut wanted = vec![(account.membership, account.user)];
    let mut change = ChangeSet::new(Family::Directory);
    for _ in 0..6 {
        let user = world.user()?;
        let member = membership(account.workspace.id, user.id);
        let both = inserts(Family::Directory, [Put::User(user.clone()), Put::Membership(member.clone())]);
        change.guards.extend(both.guards);
        change.puts.extend(both.puts);
        wanted.push((member, user));
    }
    world.commit(&change).await?;
    let id = account.workspace.id;
    let found = all_pages(|after| world.store.members(id, after, super::STEP), |(_, user)| user.id).await?;
    same!(found, wanted, "the members");
    Ok(())
}

pub(super) async fn workspaces_of_a_user_are_newest_first(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    world.account().await?;
    let mut wanted = vec![(account.workspace, account.membership)];
    for _ in 0..6 {
        let workspace = world.workspace()?;
        let member = membership(workspace.id, account.user.id);
        let puts = [Put::Workspace(workspace.clone()), Put::Membership(member.clone())];
        world.commit(&inserts(Family::Directory, puts)).await?;
        wanted.insert(0, (workspace, member));
    }
    let id = account.user.id;
    let found =
        all_pages(|after| world.store.workspaces_of(id, after, super::STEP), |(workspace, _)| workspace.id)
            .await?;
    same!(found, wanted, "the workspaces");
    Ok(())
}

pub(super) async fn every_workspace_comes_once_and_the_oldest_first(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let mut wanted = vec![account.workspace];
    for _ in 0..4 {
        let workspace = world.workspace()?;
        world.commit(&inserts(Family::Directory, [Put::Workspace(workspace.clone())])).await?;
        wanted.push(workspace);
    }
    // Others may be there, too.
    let mut found =
        all_pages(|after| world.store.all_workspaces(after, super::STEP), |workspace| workspace.id).await?;
    ensure!(found.is_sorted_by(|one, next| one.id < next.id), "workspaces out of order");
    found.retain(|workspace| wanted.iter().any(|own| own.id == workspace.id));
    same!(found, wanted, "the workspaces");
    Ok(())
}

pub(super) async fn invites_are_the_unspent_ones(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let mut wanted = Vec::new();
    for count in 0..9 {
        let mut grant = world.grant(if count == 0 { GrantKind::Recovery } else { GrantKind::Invite });
        (grant.workspace, grant.user) = (Some(account.workspace.id), Some(account.user.id));
        world.commit(&inserts(Family::Directory, [Put::Grant(grant.clone())])).await?;
        if count == 1 {
            let what = SingleUse::Grant(grant.id);
            let mut change = ChangeSet::new(Family::Directory);
            change.guards.push(Guard::Unspent(what, NOON));
            change.spends.push(Spend { what, at: NOON });
            world.commit(&change).await?;
        } else if count > 1 {
            wanted.insert(0, grant);
        }
    }
    let id = account.workspace.id;
    let found = all_pages(|after| world.store.invites(id, after, super::STEP), |grant| grant.id).await?;
    same!(found, wanted, "the invites");
    Ok(())
}
