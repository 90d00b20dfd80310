//! Stories: a world without faults by chance, and one who does things in it in order.

use std::sync::{Arc, Mutex};

use burstflare_core::service::NewSession;
use burstflare_core::{Caller, ControlPlane, Error};
use burstflare_ports::blob::Blobs;
use burstflare_ports::id::Id;
use burstflare_ports::memory::{MemoryBlobs, MemoryStore};
use burstflare_ports::record::{Origin, Session, SessionState, Sharing};
use burstflare_ports::store::Store;
use burstflare_ports::stream::Body;

use super::executor::{Executor, Side, SimClock};
use super::fault::{Faults, Rates, Tracing};
use super::rng::Rng;
use super::store::Sabotage;
use super::world::World;

/// A story that lasts longer runs in circles.
const POLLS: u64 = 3_000_000;

/// Tells a story to its end, and answers what it says. The control plane crashes where the story's fuse burns down.
pub(super) fn play<T, Fut>(name: &str, tell: impl FnOnce(World) -> Fut) -> T
where
    T: Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
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
    let verdict: Arc<Mutex<Option<T>>> = Arc::default();
    let (told, written) = (tell(world.clone()), Arc::clone(&verdict));
    executor.spawner.spawn(Side::World, async move {
        let ended = told.await;
        *written.lock().unwrap() = Some(ended);
    });
    let ended = loop {
        if let Some(ended) = verdict.lock().unwrap().take() {
            break ended;
        }
        assert!(executor.turn(), "{name}: everybody waits for nothing");
        assert!(executor.polls < POLLS, "{name}: it runs in circles");
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

/// Somebody registers, builds and promotes a version, and has a session that runs.
pub(super) async fn opening(world: &World) -> Session {
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
    session
}

/// Asks as the one who registered; an answer that never came is an error, too.
pub(super) async fn ask<T, F, Fut>(world: &World, request: F) -> Result<T, Error>
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

/// Waits until a session runs with the files it was to have, and starts it where it sleeps.
pub(super) async fn running(world: &World, id: Id<Session>) {
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
