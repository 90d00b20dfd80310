//! The control plane dies at every step of taking, forking, restoring and deleting snapshots: each moment before and
//! behind each call of a port is tried, one story for each, until a story ends without having reached its moment.

use std::collections::BTreeSet;

use burstflare_core::service::Fork;
use burstflare_ports::blob::BlobKey;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Session, Sharing, Snapshot, SnapshotState};
use burstflare_ports::store::PAGE_LIMIT;

use super::stage::{ask, opening, play, running};
use super::world::World;
use crate::packed::Files;

#[test]
fn a_crash_at_any_step_loses_no_snapshot_and_leaves_nothing() {
    let mut moments = 0;
    while !story(moments) {
        moments += 1;
        assert!(moments < 20_000, "the story does not end");
    }
    // It was worth it: the story has many steps.
    assert!(moments > 200, "{moments}");
}

/// Tells the story with a crash in this moment; answers whether it ended before.
fn story(moment: u64) -> bool {
    play(&format!("moment {moment}"), move |world| async move { tell(&world, moment).await })
}

async fn tell(world: &World, moment: u64) -> bool {
    let session = opening(world).await;

    // What was there before the trouble begins.
    put(world, &session, "a", "old");
    let first = taken(world, &session).await;
    let old = world.tree_of(&first).await.unwrap();
    world.faults.light(moment);

    put(world, &session, "a", "new");
    put(world, &session, "b", "new, too");
    let second = taken(world, &session).await;
    let new = world.tree_of(&second).await.unwrap();
    assert_ne!(old, new);
    let from = second.id.to_string();
    let origin = session.id.to_string();
    let forked = loop {
        let wish =
            Fork { name: "f".parse().unwrap(), snapshot: Some(from.clone()), sharing: Sharing::Private };
        let origin = origin.clone();
        let reply =
            ask(world, |plane, caller| async move { plane.fork_session(&caller, &origin, wish).await }).await;
        match reply {
            Ok(forked) => break forked.id,
            Err(error) if error.code == "name_taken" => break named(world, &session, "f").await,
            Err(_) => world.sleep(1_000).await,
        }
    };
    running(world, forked).await;
    assert_eq!(disk(world, &session, forked), Some(new.clone()), "moment {moment}: the fork's files");
    loop {
        let to = first.id.to_string();
        let reply =
            ask(world, |plane, caller| async move { plane.restore_snapshot(&caller, &to, true).await }).await;
        if reply.is_ok() {
            break;
        }
        world.sleep(1_000).await;
    }
    world.sleep(1_000).await;
    running(world, session.id).await;
    assert_eq!(disk(world, &session, session.id), Some(old.clone()), "moment {moment}: the restored files");
    loop {
        let gone = second.id.to_string();
        let reply =
            ask(world, |plane, caller| async move { plane.delete_snapshot(&caller, &gone).await }).await;
        match reply {
            Ok(_) => break,
            Err(error) if error.code == "not_found" => break,
            Err(_) => world.sleep(1_000).await,
        }
    }
    let ended = world.faults.put_out();

    // Everything comes to rest; what nothing needs is gone after the grace, and what is there can be restored.
    world.sleep(4 * 3_600_000).await;
    let mut named = BTreeSet::new();
    for owner in [session.id, forked] {
        let all = world.store.snapshots(session.workspace, owner, None, PAGE_LIMIT).await.unwrap().items;
        for snapshot in all.iter().filter(|it| it.state == SnapshotState::Complete) {
            let tree = world.tree_of(snapshot).await;
            assert!(tree.is_some(), "moment {moment}: {} cannot be restored", snapshot.id);
            if snapshot.id == first.id {
                assert_eq!(tree.as_ref(), Some(&old), "moment {moment}: the first snapshot");
            }
            named.insert(snapshot.blob.clone());
        }
        assert!(all.iter().all(|it| it.state != SnapshotState::Pending), "moment {moment}: {all:?}");
    }
    let packs =
        world.store.packs_in(session.workspace, session.lineage, None, PAGE_LIMIT).await.unwrap().items;
    for pack in &packs {
        let blob = format!("{}/packs/{}", pack.workspace, pack.id);
        named.extend([blob.parse().unwrap(), format!("{blob}.index").parse::<BlobKey>().unwrap()]);
    }
    let left =
        world.store.unreferenced_packs(session.workspace, session.lineage, PAGE_LIMIT).await.unwrap().items;
    assert!(left.is_empty(), "moment {moment}: nothing names {left:?}");
    for kind in ["packs", "snapshots"] {
        let below = format!("{}/{kind}", session.workspace).parse().unwrap();
        let keys = world.blobs.list(&below, None, PAGE_LIMIT).await.unwrap().keys;
        let leaked: Vec<_> = keys.into_iter().filter(|key| !named.contains(key)).collect();
        assert!(leaked.is_empty(), "moment {moment}: no record names {leaked:?}");
    }
    assert_eq!(world.violations().await, Vec::<String>::new(), "moment {moment}");
    ended
}

/// A complete snapshot of a running session, however often it takes.
async fn taken(world: &World, session: &Session) -> Snapshot {
    let before = world.store.session(session.workspace, session.id).await.unwrap().unwrap().snapshot;
    for _ in 0..2_000 {
        let id = session.id.to_string();
        let _ =
            ask(world, |plane, caller| async move { plane.create_snapshot(&caller, &id, None).await }).await;
        world.sleep(2_000).await;
        let now = world.store.session(session.workspace, session.id).await.unwrap().unwrap();
        if let Some(id) = now.snapshot.filter(|id| Some(*id) != before) {
            return world.store.snapshot(session.workspace, id).await.unwrap().unwrap();
        }
    }
    panic!("no snapshot of {}", session.id);
}

async fn named(world: &World, session: &Session, name: &str) -> Id<Session> {
    let found = world.store.session_by_name(session.workspace, &name.parse().unwrap()).await.unwrap();
    found.unwrap().id
}

fn put(world: &World, session: &Session, path: &str, text: &str) {
    let mut all = world.machines.all.lock().unwrap();
    let machine = all.iter_mut().find(|(key, _)| key.owner.to_string() == session.id.to_string()).unwrap().1;
    machine.files().unwrap().insert(path.to_owned(), text.to_owned());
}

fn disk(world: &World, session: &Session, id: Id<Session>) -> Option<Files> {
    let _ = session;
    let found = world.machines.census().into_iter().find(|(key, ..)| key.owner.to_string() == id.to_string());
    found.and_then(|(.., files)| files)
}
