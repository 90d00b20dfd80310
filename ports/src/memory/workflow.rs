use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::locked;
use crate::drive::{StepOutcome, StepRunner};
use crate::error::PortResult;
use crate::workflow::{Run, Workflows};

/// Runs and the steps they have behind them. Whoever drives calls [`MemoryWorkflows::advance`], once for each step.
#[derive(Debug, Default)]
pub struct MemoryWorkflows {
    runs: Mutex<BTreeMap<String, Journal>>,
}

#[derive(Debug)]
struct Journal {
    run: Run,
    behind: Vec<String>,
    failures: u32,
    over: bool,
}

impl MemoryWorkflows {
    /// Tries of a step before the run is given up.
    pub const TRIES: u32 = 3;

    /// Runs that are not over, in the order of their names.
    #[must_use]
    pub fn pending(&self) -> Vec<Run> {
        locked(&self.runs).values().filter(|journal| !journal.over).map(|journal| journal.run).collect()
    }

    /// Runs the next step of a run, or gives the run up behind too many failures; answers whether it goes on. A future that is
    /// dropped midway is a step that was cut off, and comes again.
    ///
    /// # Errors
    /// What the runner answered; the step is tried again by the next call.
    pub async fn advance(&self, runner: &dyn StepRunner, run: &Run) -> PortResult<bool> {
        let name = run.name();
        let (behind, failures) = match locked(&self.runs).get(&name) {
            Some(journal) if !journal.over => (journal.behind.clone(), journal.failures),
            _ => return Ok(false),
        };
        let outcome = if failures >= Self::TRIES {
            runner.abandon(run, "a step failed too often").await.map(|()| None)
        } else {
            Self::next_step(runner, run, &behind).await
        };
        let mut runs = locked(&self.runs);
        let Some(journal) = runs.get_mut(&name) else { return Ok(false) };
        match outcome {
            Ok(Some(step)) => {
                journal.behind.push(step);
                journal.failures = 0;
                Ok(true)
            }
            Ok(None) => {
                journal.over = true;
                Ok(false)
            }
            Err(error) => {
                journal.failures += 1;
                Err(error)
            }
        }
    }

    /// The step that was run, or none where the run is over.
    async fn next_step(runner: &dyn StepRunner, run: &Run, behind: &[String]) -> PortResult<Option<String>> {
        let steps = runner.steps(run).await?;
        let Some(step) = steps.into_iter().find(|step| !behind.contains(step)) else { return Ok(None) };
        Ok(match runner.step(run, &step).await? {
            StepOutcome::Next => Some(step),
            StepOutcome::End => None,
        })
    }
}

#[async_trait]
impl Workflows for MemoryWorkflows {
    async fn start(&self, run: Run) -> PortResult<()> {
        let new = || Journal { run, behind: Vec::new(), failures: 0, over: false };
        locked(&self.runs).entry(run.name()).or_insert_with(new);
        Ok(())
    }
}
