//! What Cloudflare calls.

use axum::body::Body;
use axum::http::Response;
use worker::{Context, Env, HttpRequest};

/// Every request.
#[worker::event(fetch)]
async fn fetch(request: HttpRequest, env: Env, _: Context) -> worker::Result<Response<Body>> {
    burstflare_app_edge::worker::answer(request, env).await
}
