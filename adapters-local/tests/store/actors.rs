use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::actors::LocalActors;
use burstflare_adapters_local::clock::SystemClock;
use burstflare_ports::actor::Actors;
use burstflare_ports::clock::Clock;
use burstflare_ports::drive::SessionActor;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Session, Workspace};
use burstflare_ports::time::Timestamp;

/// What the looks at a session answer, one after the other.
type Answers = Vec<PortResult<Option<Timestamp>>>;

/// Answers by a script, and sees whether it is called as promised.
#[derive(Default)]
struct Script {
    /// What each look of a session answers; nothing is going to sleep.
    answers: Mutex<BTreeMap<Id<Session>, Answers>>,
    looks: Mutex<BTreeMap<Id<Session>, usize>>,
    now: Mutex<BTreeMap<Id<Session>, usize>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    twice_at_once: AtomicUsize,
    takes: Duration,
    panics: bool,
}

impl Script {
    fn looks(&self, session: Id<Session>) -> usize {
        self.looks.lock().expect("no panic").get(&session).copied().unwrap_or(0)
    }
}

#[async_trait]
impl SessionActor for Script {
    async fn tend(&self, _: Id<Workspace>, session: Id<Session>) -> PortResult<Option<Timestamp>> {
        *self.looks.lock().expect("no panic").entry(session).or_default() += 1;
        if std::mem::replace(self.now.lock().expect("no panic").entry(session).or_default(), 1) == 1 {
            self.twice_at_once.fetch_add(1, Ordering::SeqCst);
        }
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        tokio::time::sleep(self.takes).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.now.lock().expect("no panic").insert(session, 0);
        assert!(!self.panics || self.looks(session) > 1, "by the script");
        let mut answers = self.answers.lock().expect("no panic");
        match answers.get_mut(&session) {
            Some(answers) if !answers.is_empty() => answers.remove(0),
            _ => Ok(None),
        }
    }
}

fn name(number: u8) -> (Id<Workspace>, Id<Session>) {
    (Id::new(Timestamp::from_millis(1), [1; 10]), Id::new(Timestamp::from_millis(1), [number; 10]))
}

async fn wake(actors: &LocalActors, number: u8) {
    let (workspace, session) = name(number);
    actors.wake(workspace, session).await.expect("awake");
}

async fn quiet(actors: &LocalActors) {
    let all_quiet = async {
        while actors.awake() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_quiet).await.expect("all sessions are quiet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_never_looked_at_twice_at_once_and_no_wake_is_lost() {
    let actors = LocalActors::new(Arc::new(SystemClock), 64);
    let script = Arc::new(Script { takes: Duration::from_millis(2), ..Script::default() });
    actors.run(script.clone());
    for _ in 0..200 {
        wake(&actors, 1).await;
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    quiet(&actors).await;
    assert_eq!(script.twice_at_once.load(Ordering::SeqCst), 0);
    let before = script.looks(name(1).1);
    assert!((2..=200).contains(&before), "{before} looks");
    wake(&actors, 1).await;
    quiet(&actors).await;
    assert_eq!(script.looks(name(1).1), before + 1, "a wake behind the last look is another look");
}

#[tokio::test]
async fn a_wake_during_a_look_leads_to_another_look() {
    let actors = LocalActors::new(Arc::new(SystemClock), 64);
    let script = Arc::new(Script { takes: Duration::from_millis(100), ..Script::default() });
    actors.run(script.clone());
    wake(&actors, 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    wake(&actors, 1).await;
    wake(&actors, 1).await;
    quiet(&actors).await;
    assert_eq!(script.looks(name(1).1), 2);
}

#[tokio::test]
async fn looks_are_bounded() {
    let actors = LocalActors::new(Arc::new(SystemClock), 3);
    let script = Arc::new(Script { takes: Duration::from_millis(10), ..Script::default() });
    actors.run(script.clone());
    for number in 0..30 {
        wake(&actors, number).await;
    }
    quiet(&actors).await;
    assert_eq!(script.most_at_once.load(Ordering::SeqCst), 3);
    assert!((0..30).all(|number| script.looks(name(number).1) == 1));
}

#[tokio::test]
async fn a_session_is_looked_at_when_it_asked_to_be() {
    let actors = LocalActors::new(Arc::new(SystemClock), 64);
    let at = SystemClock.now().after(Duration::from_millis(200));
    let script = Arc::new(Script::default());
    script.answers.lock().expect("no panic").insert(name(1).1, vec![Ok(Some(at))]);
    actors.run(script.clone());
    wake(&actors, 1).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!((script.looks(name(1).1), actors.awake()), (1, 1), "it waits for its moment");
    quiet(&actors).await;
    assert_eq!(script.looks(name(1).1), 2);
    assert!(SystemClock.now() >= at);
}

#[tokio::test]
async fn a_failed_look_and_one_that_panics_come_again() {
    for panics in [false, true] {
        let actors = LocalActors::new(Arc::new(SystemClock), 64);
        let script = Arc::new(Script { panics, ..Script::default() });
        if !panics {
            let error = PortError::new(ErrorKind::Unavailable, "test", "by the script");
            script.answers.lock().expect("no panic").insert(name(1).1, vec![Err(error)]);
        }
        actors.run(script.clone());
        wake(&actors, 1).await;
        quiet(&actors).await;
        assert_eq!(script.looks(name(1).1), 2, "panics: {panics}");
    }
}

#[tokio::test]
async fn who_was_woken_before_there_was_an_actor_is_looked_at() {
    let actors = LocalActors::new(Arc::new(SystemClock), 64);
    wake(&actors, 1).await;
    wake(&actors, 2).await;
    let script = Arc::new(Script::default());
    actors.run(script.clone());
    quiet(&actors).await;
    assert_eq!((script.looks(name(1).1), script.looks(name(2).1)), (1, 1));
}

#[tokio::test]
async fn behind_shutdown_nobody_is_woken() {
    let actors = LocalActors::new(Arc::new(SystemClock), 64);
    let later = SystemClock.now().after(Duration::from_secs(3600));
    let script = Arc::new(Script::default());
    script.answers.lock().expect("no panic").insert(name(1).1, vec![Ok(Some(later))]);
    actors.run(script.clone());
    wake(&actors, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(actors.shutdown(Duration::from_secs(5)).await, 0, "who only waits ends at once");
    let (workspace, session) = name(2);
    let error = actors.wake(workspace, session).await.expect_err("it is over");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
