//! Runs on the real engine, with a runner whose script is the run's attempt and whose doings are notes.

use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_cloudflare::{CloudQueue, CloudWorkflows, js, workflow};
use burstflare_ports::conformance::{Finding, Verdict};
use burstflare_ports::drive::{StepOutcome, StepRunner};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::queue::{Job, Queue as _};
use burstflare_ports::time::Timestamp;
use burstflare_ports::workflow::{Run, Workflows as _};
use wasm_bindgen::prelude::*;
use worker::{Delay, Env};

use crate::notes;

/// The names of the cases.
pub(crate) const CASES: [&str; 6] = [
    "a_run_goes_through_its_steps_in_order",
    "a_run_that_is_started_again_is_the_same_run",
    "a_step_that_fails_twice_is_tried_again",
    "a_step_that_always_fails_gives_the_run_up",
    "a_run_ends_where_a_step_says_so",
    "a_job_that_comes_twice_is_one_run",
];

const SMOOTH: u32 = 1;
const FAILS_TWICE: u32 = 2;
const FAILS: u32 = 3;
const ENDS: u32 = 4;
/// The second step does not come back before the process that ran it has ended.
const HANGS_ONCE: u32 = 5;

const STEPS: [&str; 3] = ["one", "two", "three"];
const ALL: [&str; 3] = ["step one", "step two", "step three"];

/// What the entry's class calls; `crate::workflow` of the adapters is what it passes on to.
#[wasm_bindgen]
pub struct BuildSteps {
    env: Env,
}

#[wasm_bindgen]
impl BuildSteps {
    /// For an instance of the workflow.
    #[wasm_bindgen(constructor)]
    pub fn new(env: Env, _context: JsValue) -> Self {
        Self { env }
    }

    /// The names of a run's steps.
    ///
    /// # Errors
    /// What the runner answers.
    pub async fn steps(&self, run: String) -> Result<js_sys::Array, JsValue> {
        workflow::steps(&Scripted { env: self.env.clone() }, &run).await
    }

    /// Runs a step; answers whether the run goes on.
    ///
    /// # Errors
    /// What the runner answers.
    pub async fn step(&self, run: String, name: String) -> Result<bool, JsValue> {
        workflow::step(&Scripted { env: self.env.clone() }, &run, &name).await
    }

    /// Gives a run up.
    ///
    /// # Errors
    /// What the runner answers.
    pub async fn abandon(&self, run: String, reason: String) -> Result<(), JsValue> {
        workflow::abandon(&Scripted { env: self.env.clone() }, &run, &reason).await
    }
}

struct Scripted {
    env: Env,
}

#[async_trait]
impl StepRunner for Scripted {
    async fn steps(&self, _: &Run) -> PortResult<Vec<String>> {
        Ok(STEPS.map(str::to_owned).to_vec())
    }

    async fn step(&self, run: &Run, name: &str) -> PortResult<StepOutcome> {
        js(async {
            let about = run.build.to_string();
            let note = format!("step {name}");
            notes::write(&self.env, &about, &note).await;
            let tries = notes::read(&self.env, &about).await.iter().filter(|other| **other == note).count();
            match (run.attempt, name) {
                (FAILS_TWICE, "two") if tries <= 2 => Err(broken()),
                (FAILS, "two") => Err(broken()),
                (ENDS, "two") => Ok(StepOutcome::End),
                (HANGS_ONCE, "two") if tries == 1 => {
                    Delay::from(Duration::from_secs(3_600)).await;
                    Err(broken())
                }
                _ => Ok(StepOutcome::Next),
            }
        })
        .await
    }

    async fn abandon(&self, run: &Run, reason: &str) -> PortResult<()> {
        js(notes::write(&self.env, &run.build.to_string(), &format!("abandoned: {reason}"))).await;
        Ok(())
    }
}

fn broken() -> PortError {
    PortError::new(ErrorKind::Unavailable, "case.step", "by the script")
}

fn finding(error: &worker::Error) -> Finding {
    Finding(error.to_string())
}

/// Begins the run that [`crash`] looks at behind the end of everything; answers its build.
pub(crate) async fn before_crash(env: &Env, seed: u64) -> Result<String, Finding> {
    let run = fresh(seed, HANGS_ONCE);
    CloudWorkflows::new(env, "BUILDS").map_err(|error| finding(&error))?.start(run).await?;
    expect(env, &run.build.to_string(), &["step one", "step two"]).await?;
    Ok(run.build.to_string())
}

/// What became of it: the step that was cut off came again, the one behind it did not.
pub(crate) async fn after_crash(env: &Env, build: &str) -> Verdict {
    expect(env, build, &["step one", "step two", "step two", "step three"]).await
}

fn fresh(seed: u64, attempt: u32) -> Run {
    let mut chance = [0; 10];
    chance[..8].copy_from_slice(&seed.to_be_bytes());
    let at = Timestamp::from_millis(1);
    Run { workspace: Id::new(at, chance), build: Id::new(at, chance), attempt }
}

/// Runs a case; none where there is none.
pub(crate) async fn run(name: &str, env: &Env, seed: u64) -> worker::Result<Option<Verdict>> {
    let workflows = CloudWorkflows::new(env, "BUILDS")?;
    let (attempt, times, wanted): (_, _, &[&str]) = match name {
        "a_run_goes_through_its_steps_in_order" => (SMOOTH, 1, &ALL),
        "a_run_that_is_started_again_is_the_same_run" => (SMOOTH, 3, &ALL),
        "a_step_that_fails_twice_is_tried_again" => {
            (FAILS_TWICE, 1, &["step one", "step two", "step two", "step two", "step three"])
        }
        "a_step_that_always_fails_gives_the_run_up" => (
            FAILS,
            1,
            &["step one", "step two", "step two", "step two", "abandoned: case.step: by the script"],
        ),
        "a_run_ends_where_a_step_says_so" => (ENDS, 1, &["step one", "step two"]),
        "a_job_that_comes_twice_is_one_run" => return twice(env, seed).await.map(Some),
        _ => return Ok(None),
    };
    let run = fresh(seed, attempt);
    for _ in 0..times {
        if let Err(error) = workflows.start(run).await {
            return Ok(Some(Err(error.into())));
        }
    }
    Ok(Some(expect(env, &run.build.to_string(), wanted).await))
}

async fn twice(env: &Env, seed: u64) -> worker::Result<Verdict> {
    let queue = CloudQueue::new(env, "JOBS")?;
    let run = fresh(seed, SMOOTH);
    for _ in 0..2 {
        let job = Job::RunBuild { workspace: run.workspace, build: run.build };
        if let Err(error) = queue.enqueue(&job, Duration::ZERO).await {
            return Ok(Err(error.into()));
        }
    }
    let about = run.build.to_string();
    let handled = |notes: &[String]| notes.iter().filter(|note| note.starts_with("handled")).count() == 2;
    let steps =
        |notes: &[String]| notes.iter().filter(|note| note.starts_with("step")).cloned().collect::<Vec<_>>();
    for _ in 0..300 {
        let notes = notes::read(env, &about).await;
        if handled(&notes) && steps(&notes).len() >= ALL.len() {
            // A second run would show by now, and shows in the wrong number of steps.
            Delay::from(Duration::from_secs(2)).await;
            let found = steps(&notes::read(env, &about).await);
            return Ok(if found == ALL { Ok(()) } else { Err(Finding(format!("{found:?}"))) });
        }
        Delay::from(Duration::from_millis(100)).await;
    }
    Ok(Err(Finding(format!("{:?}", notes::read(env, &about).await))))
}

/// Waits until so much has happened, and a little longer for what must not happen.
async fn expect(env: &Env, about: &str, wanted: &[&str]) -> Verdict {
    for _ in 0..600 {
        if notes::read(env, about).await.len() >= wanted.len() {
            break;
        }
        Delay::from(Duration::from_millis(100)).await;
    }
    Delay::from(Duration::from_secs(1)).await;
    let found = notes::read(env, about).await;
    if found == wanted { Ok(()) } else { Err(Finding(format!("found {found:?}\nwanted {wanted:?}"))) }
}
