//! What the platform calls beside requests: jobs that wait in the queue, the clock, and the steps of builds.

use burstflare_adapters_cloudflare::queue::{Batch, consume};
use burstflare_adapters_cloudflare::{D1, js, workflow};
use burstflare_core::ControlPlane;
use worker::js_sys::Array;
use worker::wasm_bindgen::JsValue;
use worker::{Env, Error};

use super::{EventContext, plane};

/// Takes a batch of jobs, each by itself.
///
/// # Errors
/// Where the deployment is not set up; the whole batch comes again then.
pub async fn take(batch: Batch, env: Env, context: EventContext) -> worker::Result<()> {
    let plane = plane(&env, D1::new(env.d1("DB")?), context)?;
    consume(batch, &plane).await;
    Ok(())
}

/// Delivers what the outbox still holds and makes good what was left behind; called by the clock.
///
/// # Errors
/// Where the deployment is not set up, or a service does not answer: the next call goes on.
pub async fn reconcile(env: Env, context: EventContext) -> worker::Result<()> {
    let plane = plane(&env, D1::new(env.d1("DB")?), context)?;
    let report = js(plane.reconcile()).await.map_err(|error| Error::RustError(error.to_string()))?;
    tracing::info!(?report, "reconciled");
    Ok(())
}

/// The steps of builds, for one call of the workflow's class.
pub struct Steps {
    plane: worker::Result<ControlPlane>,
}

impl Steps {
    /// For an instance with this context.
    #[must_use]
    pub fn new(env: &Env, context: EventContext) -> Self {
        let plane = || plane(env, D1::new(env.d1("DB")?), context);
        Self { plane: plane() }
    }

    fn plane(&self) -> Result<&ControlPlane, JsValue> {
        self.plane.as_ref().map_err(|error| JsValue::from_str(&error.to_string()))
    }

    /// The names of a run's steps.
    ///
    /// # Errors
    /// The platform tries again.
    pub async fn steps(&self, run: &str) -> Result<Array, JsValue> {
        js(workflow::steps(self.plane()?, run)).await
    }

    /// Runs a step; answers whether the run goes on.
    ///
    /// # Errors
    /// The platform tries again.
    pub async fn step(&self, run: &str, name: &str) -> Result<bool, JsValue> {
        js(workflow::step(self.plane()?, run, name)).await
    }

    /// Gives a run up.
    ///
    /// # Errors
    /// The platform tries again.
    pub async fn abandon(&self, run: &str, reason: &str) -> Result<(), JsValue> {
        js(workflow::abandon(self.plane()?, run, reason)).await
    }
}
