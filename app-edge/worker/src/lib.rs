//! What Cloudflare calls. `entry.mjs` beside the manifest is the module it loads.
#![expect(missing_docs, reason = "the macro for Durable Objects makes methods without")]

use axum::body::Body;
use axum::http::Response;
use burstflare_adapters_cloudflare::{feed, queue::Batch};
use burstflare_app_edge::worker::{EventContext, MachineObject, Steps, answer, reconcile, take};
use wasm_bindgen::prelude::*;
use worker::{
    Context, DurableObject, Env, Error, HttpRequest, Request, State, WebSocket, WebSocketIncomingMessage,
    durable_object,
};

/// Every request.
#[worker::event(fetch)]
async fn fetch(request: HttpRequest, env: Env, context: Context) -> worker::Result<Response<Body>> {
    let context: &JsValue = context.as_ref().as_ref();
    answer(request, env, EventContext::new(context.clone())).await
}

/// Every batch of jobs.
///
/// # Errors
/// Where the deployment is not set up: the batch comes again.
#[wasm_bindgen]
pub async fn queue(batch: Batch, env: Env, context: JsValue) -> Result<(), JsValue> {
    Ok(take(batch, env, EventContext::new(context)).await?)
}

/// Every minute.
///
/// # Errors
/// Where something does not answer: the next minute goes on.
#[wasm_bindgen]
pub async fn scheduled(_event: JsValue, env: Env, context: JsValue) -> Result<(), JsValue> {
    Ok(reconcile(env, EventContext::new(context)).await?)
}

/// What the workflow's class in `entry.mjs` calls.
#[wasm_bindgen]
pub struct BuildSteps(Steps);

#[wasm_bindgen]
impl BuildSteps {
    /// For one call.
    #[wasm_bindgen(constructor)]
    pub fn new(env: &Env, context: JsValue) -> Self {
        Self(Steps::new(env, EventContext::new(context)))
    }

    /// The names of a run's steps.
    ///
    /// # Errors
    /// The platform tries again.
    pub async fn steps(&self, run: String) -> Result<js_sys::Array, JsValue> {
        self.0.steps(&run).await
    }

    /// Runs a step; answers whether the run goes on.
    ///
    /// # Errors
    /// The platform tries again.
    pub async fn step(&self, run: String, name: String) -> Result<bool, JsValue> {
        self.0.step(&run, &name).await
    }

    /// Gives a run up.
    ///
    /// # Errors
    /// The platform tries again.
    pub async fn abandon(&self, run: String, reason: String) -> Result<(), JsValue> {
        self.0.abandon(&run, &reason).await
    }
}

/// Tells everybody who listens to a workspace that there is news.
#[durable_object(websocket)]
pub struct WorkspaceObject {
    state: State,
}

impl DurableObject for WorkspaceObject {
    fn new(state: State, _: Env) -> Self {
        Self { state }
    }

    async fn fetch(&self, request: Request) -> worker::Result<worker::Response> {
        feed::answer(&self.state, &request)
    }

    /// Listeners have nothing to say.
    async fn websocket_message(&self, _: WebSocket, _: WebSocketIncomingMessage) -> worker::Result<()> {
        Ok(())
    }

    /// One who left is among the sockets no more.
    async fn websocket_close(&self, _: WebSocket, _: usize, _: String, _: bool) -> worker::Result<()> {
        Ok(())
    }

    async fn websocket_error(&self, _: WebSocket, _: Error) -> worker::Result<()> {
        Ok(())
    }
}

/// The one owner of a machine, and the one writer of its session.
#[durable_object(alarm)]
pub struct Machine {
    object: worker::Result<MachineObject>,
}

impl Machine {
    fn object(&self) -> worker::Result<&MachineObject> {
        self.object.as_ref().map_err(|error| Error::RustError(error.to_string()))
    }
}

impl DurableObject for Machine {
    fn new(state: State, env: Env) -> Self {
        Self { object: MachineObject::new(state, env) }
    }

    async fn fetch(&self, request: Request) -> worker::Result<worker::Response> {
        self.object()?.fetch(request).await
    }

    async fn alarm(&self) -> worker::Result<worker::Response> {
        self.object()?.alarm().await?;
        worker::Response::empty()
    }
}
