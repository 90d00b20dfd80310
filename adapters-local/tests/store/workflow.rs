use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::clock::SystemClock;
use burstflare_adapters_local::workflow::{SqliteWorkflows, WorkflowOptions};
use burstflare_ports::drive::{StepOutcome, StepRunner};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::time::Timestamp;
use burstflare_ports::workflow::{Run, Workflows};

use super::{Place, open, place};

/// What a step does besides being noted.
#[derive(Clone, Copy, PartialEq)]
enum Trick {
    Nothing,
    FailOnce(&'static str),
    Fail(&'static str),
    Hang(&'static str),
    End(&'static str),
}

struct Steps {
    trick: Trick,
    came: Mutex<Vec<String>>,
}

impl Steps {
    fn new(trick: Trick) -> Arc<Self> {
        Arc::new(Self { trick, came: Mutex::new(Vec::new()) })
    }

    fn came(&self) -> Vec<String> {
        self.came.lock().expect("no panic").clone()
    }
}

#[async_trait]
impl StepRunner for Steps {
    async fn steps(&self, _: &Run) -> PortResult<Vec<String>> {
        Ok(["one", "two", "three"].map(str::to_owned).to_vec())
    }

    async fn step(&self, _: &Run, name: &str) -> PortResult<StepOutcome> {
        let first = {
            let mut came = self.came.lock().expect("no panic");
            came.push(name.to_owned());
            came.iter().filter(|step| *step == name).count() == 1
        };
        let failed = || Err(PortError::new(ErrorKind::Unavailable, "test.step", "by the script"));
        match self.trick {
            Trick::FailOnce(step) if step == name && first => failed(),
            Trick::Fail(step) if step == name => failed(),
            Trick::Hang(step) if step == name => std::future::pending().await,
            Trick::End(step) if step == name => Ok(StepOutcome::End),
            _ => Ok(StepOutcome::Next),
        }
    }

    async fn abandon(&self, _: &Run, reason: &str) -> PortResult<()> {
        self.came.lock().expect("no panic").push(format!("abandoned: {reason}"));
        Ok(())
    }
}

fn run(attempt: u32) -> Run {
    let at = Timestamp::from_millis(1);
    Run { workspace: Id::new(at, [1; 10]), build: Id::new(at, [2; 10]), attempt }
}

fn engine(place: &Place) -> SqliteWorkflows {
    let options = WorkflowOptions { pause: Duration::from_millis(20), ..WorkflowOptions::default() };
    SqliteWorkflows::new(place.database.clone(), Arc::new(SystemClock), options)
}

async fn until(done: impl Fn() -> bool + Send + Sync) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("in time");
}

async fn driven(trick: Trick) -> Vec<String> {
    let place = place().await;
    let engine = engine(&place);
    let steps = Steps::new(trick);
    engine.run(steps.clone()).await.expect("the engine");
    engine.start(run(1)).await.expect("the run");
    until(|| engine.driven() == 0).await;
    // What is over stays over.
    engine.start(run(1)).await.expect("the same run");
    tokio::time::sleep(Duration::from_millis(30)).await;
    steps.came()
}

#[tokio::test]
async fn steps_run_in_order_and_once() {
    assert_eq!(driven(Trick::Nothing).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_failed_step_is_tried_again() {
    assert_eq!(driven(Trick::FailOnce("two")).await, ["one", "two", "two", "three"]);
}

#[tokio::test]
async fn a_step_that_always_fails_gives_the_run_up() {
    let came = driven(Trick::Fail("two")).await;
    assert_eq!(came[..4], ["one", "two", "two", "two"]);
    assert_eq!(came[4..], ["abandoned: test.step: by the script"]);
}

#[tokio::test]
async fn a_step_can_end_the_run() {
    assert_eq!(driven(Trick::End("two")).await, ["one", "two"]);
}

#[tokio::test]
async fn the_next_process_goes_on_where_the_last_one_was_cut_off() {
    let place = place().await;
    let engine = engine(&place);
    let hanging = Steps::new(Trick::Hang("two"));
    engine.run(hanging.clone()).await.expect("the engine");
    engine.start(run(1)).await.expect("the run");
    until(|| hanging.came() == ["one", "two"]).await;
    assert_eq!(engine.shutdown(Duration::from_millis(10)).await, 1, "cut off");
    drop(engine);
    place.database.close().await;
    let Place { database, folder } = place;
    drop(database);

    let place = Place { database: open(&folder).await, folder };
    let engine = self::engine(&place);
    let steps = Steps::new(Trick::Nothing);
    engine.run(steps.clone()).await.expect("the engine");
    until(|| engine.driven() == 0).await;
    assert_eq!(steps.came(), ["two", "three"]);
}

#[tokio::test]
async fn what_was_started_before_there_was_a_runner_runs() {
    let place = place().await;
    let engine = engine(&place);
    engine.start(run(1)).await.expect("the run");
    engine.start(run(2)).await.expect("another attempt");
    let steps = Steps::new(Trick::Nothing);
    engine.run(steps.clone()).await.expect("the engine");
    until(|| engine.driven() == 0).await;
    assert_eq!(steps.came().len(), 6);
}
