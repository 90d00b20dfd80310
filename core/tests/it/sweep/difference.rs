//! Pages of differences, which are worked out once and kept.

use burstflare_core::Kind;
use burstflare_core::service::DiffQuery;
use burstflare_ports::record::{Session, Snapshot, SnapshotState};

use super::world::{Place, World};
use crate::simulation::store::Sabotage;
use crate::stored;

/// A snapshot with one more file than before.
async fn taken(world: &World, session: &Session, path: &str) -> Snapshot {
    let before = stored::snapshots(&*world.store, session).await;
    world.machines.write(session, |files| {
        files.insert(path.to_owned(), path.to_owned());
    });
    world.plane.create_snapshot(&world.caller, &session.id.to_string(), None).await.unwrap();
    world.settle(session).await.unwrap();
    let now = stored::snapshots(&*world.store, session).await;
    let mut new = now.into_iter().filter(|one| before.iter().all(|old| old.id != one.id));
    let snapshot = new.next().unwrap();
    assert_eq!(snapshot.state, SnapshotState::Complete);
    snapshot
}

#[tokio::test]
async fn a_page_is_worked_out_once_and_ends_with_its_snapshot() {
    let world = World::new(1, Place::Memory, Sabotage::None).await;
    let session = world.session("one").await;
    let session = world.settle(&session).await.unwrap();
    let first = taken(&world, &session, "a").await;
    let second = taken(&world, &session, "b").await;
    let ask = |limit: usize| {
        let (world, id) = (world.clone(), second.id.to_string());
        let query = DiffQuery { against: Some(first.id.to_string()), skip: 0, limit };
        async move { world.plane.diff_snapshots(&world.caller, &id, query).await }
    };
    let page = ask(10).await.unwrap();
    let paths: Vec<_> = page.list.items.iter().map(|one| one.path.clone()).collect();
    assert!(paths.iter().any(|path| path.ends_with(b"b")), "{paths:?}");
    assert!(paths.iter().all(|path| !path.ends_with(b"a")), "{paths:?}");

    // With the tree out of reach, the same page comes all the same and another one does not.
    world.blobs.delete(&second.blob).await.unwrap();
    assert_eq!(ask(10).await.unwrap(), page);
    assert_eq!(ask(11).await.map_err(|error| error.kind), Err(Kind::NotFound));

    // What is deleted is gone, kept page or not.
    world.plane.delete_snapshot(&world.caller, &first.id.to_string()).await.unwrap();
    assert_eq!(ask(10).await.map_err(|error| error.kind), Err(Kind::NotFound));
}
