use std::sync::Arc;

use super::world::{NOON, World, deletes, inserts, update};
use super::{Finding, Verdict, all_pages, same};
use crate::id::Id;
use crate::record::{SecretEntry, SecretKey, Workspace};
use crate::store::{ChangeSet, Family, Guard, Key, Put, Store, Unique};

fn key(workspace: Id<Workspace>, master: &str) -> SecretKey {
    SecretKey {
        workspace,
        sealed: "sealed".to_owned(),
        master: master.to_owned(),
        created_at: NOON,
        revision: 1,
    }
}

fn entry(world: &World, workspace: Id<Workspace>, name: &str) -> Result<SecretEntry, Finding> {
    Ok(SecretEntry {
        id: world.id(),
        workspace,
        name: name.parse().map_err(|error| Finding(format!("{error}")))?,
        sealed: "sealed".to_owned(),
        bytes: 65_536,
        changed_by: world.id(),
        created_at: NOON,
        changed_at: NOON,
        revision: 1,
    })
}

pub(super) async fn secrets_are_read_back_by_name_and_newest_first(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let store = &world.store;
    let (here, there): (Id<Workspace>, Id<Workspace>) = (world.id(), world.id());
    let mut made = Vec::new();
    for name in ["A", "B_2", "_c", "D", "E"] {
        let secret = entry(&world, here, name)?;
        world.commit(&inserts(Family::Workspace(here), [Put::Secret(secret.clone())])).await?;
        made.push(secret);
    }
    for secret in &made {
        same!(store.secret_by_name(here, &secret.name).await?.as_ref(), Some(secret), "by name");
        same!(store.secret_by_name(there, &secret.name).await?, None, "elsewhere");
    }
    made.sort_by_key(|secret| std::cmp::Reverse(secret.id));
    let all = all_pages(|after| store.secrets(here, after, super::STEP), |secret| secret.id).await?;
    same!(all, made, "the list");
    same!(store.secrets(there, None, 10).await?.items.len(), 0, "the list elsewhere");
    let mut next = made.remove(0);
    (next.sealed, next.revision) = ("another".to_owned(), 2);
    world.commit(&update(Family::Workspace(here), Put::Secret(next.clone()))).await?;
    same!(store.secret_by_name(here, &next.name).await?.as_ref(), Some(&next), "set again");
    world.commit(&deletes(Family::Workspace(here), [Key::Secret(next.id)])).await?;
    same!(store.secret_by_name(here, &next.name).await?, None, "deleted");
    Ok(())
}

pub(super) async fn a_secrets_name_is_taken_once_in_a_workspace(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let (here, there): (Id<Workspace>, Id<Workspace>) = (world.id(), world.id());
    let first = entry(&world, here, "TOKEN")?;
    world.commit(&inserts(Family::Workspace(here), [Put::Secret(first.clone())])).await?;
    let second = entry(&world, here, "TOKEN")?;
    let mut change = ChangeSet::new(Family::Workspace(here));
    change.guards.push(Guard::Free(Unique::SecretName(first.name.clone())));
    change.puts.push(Put::Secret(second));
    let refused = world.refusal(&change).await?;
    same!(refused, Guard::Free(Unique::SecretName(first.name)), "the guard");
    let elsewhere = entry(&world, there, "TOKEN")?;
    world.commit(&inserts(Family::Workspace(there), [Put::Secret(elsewhere)])).await
}

pub(super) async fn keys_of_other_masters_are_found(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let store = &world.store;
    let workspace: Id<Workspace> = world.id();
    // The store is shared with other cases: what is asked for is told apart by its workspace.
    let old = key(workspace, "m1");
    world.commit(&inserts(Family::Workspace(workspace), [Put::SecretKey(old.clone())])).await?;
    same!(store.secret_key(workspace).await?.as_ref(), Some(&old), "the key");
    same!(store.secret_key(world.id()).await?, None, "elsewhere");
    let own = |keys: Vec<SecretKey>| keys.into_iter().filter(|found| found.workspace == workspace).count();
    same!(own(store.secret_keys_of_others("m1", 200).await?.items), 0, "its own master");
    same!(own(store.secret_keys_of_others("m0", 200).await?.items), 1, "an earlier name");
    same!(own(store.secret_keys_of_others("m2", 200).await?.items), 1, "a later name");
    let mut next = old;
    (next.master, next.revision) = ("m2".to_owned(), 2);
    world.commit(&update(Family::Workspace(workspace), Put::SecretKey(next.clone()))).await?;
    same!(own(store.secret_keys_of_others("m2", 200).await?.items), 0, "wrapped anew");
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.guards.push(Guard::Absent(Key::SecretKey));
    change.puts.push(Put::SecretKey(key(workspace, "m1")));
    same!(world.refusal(&change).await?, Guard::Absent(Key::SecretKey), "one key");
    Ok(())
}
