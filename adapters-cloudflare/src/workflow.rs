//! Runs on Cloudflare Workflows.
//!
//! The platform wants a JavaScript class (`BuildWorkflow` in the Worker's entry file). It asks Rust for the names of a run's
//! steps and lets the platform call each, by [`steps`], [`step`] and [`abandon`]; what is behind is in the platform's own journal.

use async_trait::async_trait;
use burstflare_ports::drive::{StepOutcome, StepRunner};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::workflow::{Run, Workflows};
use js_sys::{Array, Object};
use wasm_bindgen::prelude::*;
use worker::Env;
use worker::send::SendWrapper;

use crate::js::{binding, failed, js, object};

#[wasm_bindgen]
extern "C" {
    type Binding;
    #[wasm_bindgen(method, catch)]
    async fn create(this: &Binding, options: &Object) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn get(this: &Binding, id: &str) -> Result<JsValue, JsValue>;
}

/// Starts runs.
pub struct CloudWorkflows {
    binding: SendWrapper<Binding>,
}

impl CloudWorkflows {
    /// Over the binding of this name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(env: &Env, name: &str) -> worker::Result<Self> {
        Ok(Self { binding: SendWrapper::new(binding(env, name)?) })
    }
}

#[async_trait]
impl Workflows for CloudWorkflows {
    async fn start(&self, run: Run) -> PortResult<()> {
        let operation = "workflow.start";
        let text = serde_json::to_string(&run).map_err(|error| {
            PortError::new(ErrorKind::Internal, operation, "a run has no text").with_source(error)
        })?;
        let id = run.name();
        js(async {
            let parameters = object([("run", JsValue::from_str(&text))]);
            let options = object([("id", JsValue::from_str(&id)), ("params", parameters.into())]);
            let Err(error) = self.binding.create(&options).await else { return Ok(()) };
            // An instance's id is used once: where there is one already, the run is on its way or over.
            match self.binding.get(&id).await {
                Ok(_) => Ok(()),
                Err(_) => Err(failed(operation, &error)),
            }
        })
        .await
    }
}

/// The names of a run's steps, for the entry.
///
/// # Errors
/// What the runner answers, as JavaScript's error.
pub async fn steps(runner: &dyn StepRunner, run: &str) -> Result<Array, JsValue> {
    let names = runner.steps(&read(run)?).await.map_err(|error| thrown(&error))?;
    Ok(names.iter().map(|name| JsValue::from_str(name)).collect())
}

/// Runs a step, for the entry; answers whether the run goes on.
///
/// # Errors
/// What the runner answers, as JavaScript's error: the platform tries the step again.
pub async fn step(runner: &dyn StepRunner, run: &str, name: &str) -> Result<bool, JsValue> {
    let outcome = runner.step(&read(run)?, name).await.map_err(|error| thrown(&error))?;
    Ok(outcome == StepOutcome::Next)
}

/// Gives a run up, for the entry.
///
/// # Errors
/// What the runner answers, as JavaScript's error: the platform tries again.
pub async fn abandon(runner: &dyn StepRunner, run: &str, reason: &str) -> Result<(), JsValue> {
    runner.abandon(&read(run)?, reason).await.map_err(|error| thrown(&error))
}

fn read(run: &str) -> Result<Run, JsValue> {
    serde_json::from_str(run).map_err(|error| js_sys::Error::new(&format!("no run: {error}")).into())
}

fn thrown(error: &PortError) -> JsValue {
    js_sys::Error::new(&error.to_string()).into()
}
