//! What Cloudflare calls.
#![expect(missing_docs, reason = "the macro for Durable Objects makes methods without")]

use axum::body::Body;
use axum::http::Response;
use burstflare_app_edge::worker::MachineObject;
use worker::durable::State;
use worker::{Context, DurableObject, Env, Error, HttpRequest, Request};

/// Every request.
#[worker::event(fetch)]
async fn fetch(request: HttpRequest, env: Env, _: Context) -> worker::Result<Response<Body>> {
    burstflare_app_edge::worker::answer(request, env).await
}

/// The one owner of a machine, and the one writer of its session.
#[worker::durable_object(alarm)]
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
