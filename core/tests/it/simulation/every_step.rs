//! The control plane dies at every step of taking, forking, restoring and deleting snapshots: each moment before and
//! behind each call of a port is tried, one story for each, until a story ends without having reached its moment.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use burstflare_core::service::{Fork, NewSession};
use burstflare_core::{Caller, ControlPlane, Error};
use burstflare_ports::blob::{BlobKey, Blobs};
use burstflare_ports::id::Id;
use burstflare_ports::memory::{MemoryBlobs, MemoryStore};
use burstflare_ports::record::{Origin, Session, SessionState, Sharing, Snapshot, SnapshotState};
use burstflare_ports::store::{PAGE_LIMIT, Store};
use burstflare_ports::stream::Body;

use super::executor::{Executor, Side, SimClock};
use super::fault::{Faults, Rates, Tracing};
use super::rng::Rng;
use super::store::Sabotage;
use super::world::World;
use crate::packed::Files;

/// A story that lasts longer runs in circles.
const POLLS: u64 = 3_000_000;

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
    let rng = Rng::new(1);
    let clock = SimClock::starting_at(1_800_000_000_000);
    let faults = Faults::new(rng.clone(), clock.clone(), Rates::NONE, Tracing::Off);
    let mut executor = Executor::new(rng.clone(), clock.clone());
    let (store, blobs): (Arc<dyn Store>, Arc<dyn Blobs>) =
        (Arc::new(MemoryStore::default()), Arc::new(MemoryBlobs::default()));
    let spawner = executor.spawner.clone();
    let world =
        World::new(rng, clock, spawner, faults.clone(), Sabotage::None, "standard", store, blobs, None);
    world.boot();
    let verdict: Arc<Mutex<Option<bool>>> = Arc::default();
    let (told, written) = (world.clone(), Arc::clone(&verdict));
    executor.spawner.spawn(Side::World, async move {
        let ended = tell(&told, moment).await;
        *written.lock().unwrap() = Some(ended);
    });
    let ended = loop {
        if let Some(ended) = verdict.lock().unwrap().take() {
            break ended;
        }
        assert!(executor.turn(), "moment {moment}: everybody waits for nothing");
        assert!(executor.polls < POLLS, "moment {moment}: it runs in circles");
        if faults.crash_now() && world.plane.lock().unwrap().is_some() {
            executor.crash();
            world.crashed();
        }
    };
    if let Some((_, hosts)) = world.plane.lock().unwrap().take() {
        hosts.forget();
    }
    ended
}

async fn tell(world: &World, moment: u64) -> bool {
    world.register().await;
    let template =
        ask(world, |plane, caller| async move { plane.create_template(&caller, "t".parse().unwrap()).await })
            .await
            .unwrap()
            .id
            .to_string();
    let of = template.clone();
    ask(
        world,
        move |plane, caller| async move { plane.create_version(&caller, &of, "1".parse().unwrap()).await },
    )
    .await
    .unwrap();
    let of = template.clone();
    ask(world, move |plane, caller| async move {
        let bundle = super::bundle::pack(&[], "mark");
        plane.upload_bundle(&caller, &of, "1", Body::Full(bundle.into())).await
    })
    .await
    .unwrap();
    loop {
        world.sleep(1_000).await;
        let of = template.clone();
        let reply =
            ask(world, move |plane, caller| async move { plane.promote(&caller, &of, "1").await }).await;
        if reply.is_ok() {
            break;
        }
    }
    let wish = NewSession { name: "s".parse().unwrap(), template, sharing: Sharing::Private };
    let made = ask(world, |plane, caller| async move { plane.create_session(&caller, wish).await }).await;
    let session = made.unwrap();
    running(world, session.id).await;

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

/// Asks until somebody answers.
async fn ask<T, F, Fut>(world: &World, request: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce(ControlPlane, Caller) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, Error>> + Send + 'static,
{
    let access = world.ledger().accounts[0].access.clone();
    let reply = world
        .call(|plane| async move {
            let caller = plane.authenticate(access.expose(), Origin::default()).await?;
            request(plane, caller).await
        })
        .await;
    reply.unwrap_or_else(|| Err(Error::conflict("crashed", "nobody answered", "ask again")))
}

async fn running(world: &World, id: Id<Session>) {
    let workspace = world.ledger().accounts[0].workspace;
    for _ in 0..2_000 {
        let found = world.store.session(workspace, id).await.unwrap().unwrap();
        if found.state == SessionState::Running && found.restore.is_none() {
            return;
        }
        if matches!(found.state, SessionState::Sleeping | SessionState::Failed) {
            let again = id.to_string();
            let _ =
                ask(world, |plane, caller| async move { plane.start_session(&caller, &again).await }).await;
        }
        world.sleep(1_000).await;
    }
    panic!("{id} does not run");
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
