//! What is answered to somebody holds, also where the machine was on another way in that moment.

use std::sync::atomic::Ordering;

use burstflare_core::domain::session::NOT_RESTORED;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Session, SessionState};

use super::stage::{ask, opening, play};
use super::world::World;

/// More looks than this find nothing any more.
const LOOKS: usize = 20_000;

async fn record(world: &World, session: &Session) -> Session {
    world.store.session(session.workspace, session.id).await.unwrap().unwrap()
}

async fn until(world: &World, session: &Session, is_so: impl Fn(&Session) -> bool) -> Session {
    for _ in 0..LOOKS {
        let found = record(world, session).await;
        if is_so(&found) {
            return found;
        }
        world.sleep(500).await;
    }
    panic!("{:?}", record(world, session).await);
}

async fn start(world: &World, id: Id<Session>) -> Session {
    let reference = id.to_string();
    ask(world, |plane, caller| async move { plane.start_session(&caller, &reference).await }).await.unwrap()
}

#[test]
fn a_start_during_the_last_word_of_an_idle_machine_wins() {
    play("idle", |world| async move {
        let session = opening(&world).await;
        world.machines.reluctant.store(true, Ordering::Relaxed);
        for _ in 0..LOOKS {
            if world.faults.happened().contains_key("idle") {
                break;
            }
            world.sleep(500).await;
        }
        // The machine has let go of everything; the record does not say so yet.
        let answer = start(&world, session.id).await;
        assert_eq!((answer.state, answer.epoch), (SessionState::Running, 1));
        let next = until(&world, &session, |found| found.epoch == 2 && found.state == SessionState::Running);
        assert_eq!(next.await.stopped_by, None);
    });
}

#[test]
fn who_asks_for_a_machine_uses_it() {
    play("wanted", |world| async move {
        let session = opening(&world).await;
        let first = until(&world, &session, |found| found.state == SessionState::Sleeping).await;
        let idle = first.changed_at.since(session.created_at);
        start(&world, session.id).await;
        until(&world, &session, |found| found.state == SessionState::Running).await;
        world.sleep(usize::try_from(idle.as_millis()).unwrap() * 3 / 4).await;
        let asked = start(&world, session.id).await;
        let again = until(&world, &session, |found| found.state == SessionState::Sleeping).await;
        let stayed = again.changed_at.since(asked.wanted_at.unwrap());
        assert!(stayed * 10 > idle * 9, "it slept {stayed:?} after it was asked for, idle time is {idle:?}");
    });
}

#[test]
fn a_restore_of_a_session_whose_machine_is_dead_is_a_failure() {
    play("restore", |world| async move {
        let session = opening(&world).await;
        let id = session.id.to_string();
        ask(&world, |plane, caller| async move { plane.create_snapshot(&caller, &id, None).await })
            .await
            .unwrap();
        let running = until(&world, &session, |found| found.snapshot.is_some()).await;
        let snapshot = running.snapshot.unwrap();
        world.machines.kill_one();
        let to = snapshot.to_string();
        let asked =
            ask(&world, |plane, caller| async move { plane.restore_snapshot(&caller, &to, false).await })
                .await;
        assert_eq!(asked.unwrap().restore, Some(snapshot));
        let end = until(&world, &session, |found| found.state == SessionState::Sleeping).await;
        let failure = end.failure.unwrap();
        assert_eq!((failure.code.as_str(), end.restore), (NOT_RESTORED, None));
        let told = world.store.events(session.workspace, 0, 200).await.unwrap();
        let told = told.iter().find(|it| it.event.kind == "snapshot.not_restored").unwrap();
        assert_eq!(told.event.subject, snapshot.to_string());
        assert_eq!(told.event.data["failure"]["hint"], failure.hint);
        // It says what to do, and that works.
        let to = snapshot.to_string();
        ask(&world, |plane, caller| async move { plane.restore_snapshot(&caller, &to, true).await })
            .await
            .unwrap();
        let back = until(&world, &session, |found| found.state == SessionState::Running).await;
        assert_eq!((back.snapshot, back.failure), (Some(snapshot), None));
    });
}
