//! The outermost layer: names the request, catches panics, writes refusals out as problem documents, sets the headers
//! that every answer has, counts.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, USER_AGENT,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use burstflare_ports::record::Origin;
use futures_util::FutureExt;

use crate::config::ClientAddress;
use crate::metrics::Series;
use crate::preview::FromApplication;
use crate::problem::Refusal;
use crate::state::EdgeState;

/// Names the request in answers and logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("flare-request-id");

/// Nothing is loaded but what this server serves, nothing is inline, and nobody frames it.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                   form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The layer.
pub(crate) async fn envelop(State(state): State<EdgeState>, mut request: Request, next: Next) -> Response {
    let clock = &state.plane.ports().clock;
    let began = clock.now();
    let request_id = request_id(&state);
    let client = request
        .extensions()
        .get::<ClientAddress>()
        .map(|peer| peer.resolve(state.config.forwarded, request.headers()));
    let origin = Origin {
        ip: client.map(|client| client.0.to_string()),
        user_agent: user_agent(request.headers()),
        request_id: Some(request_id.clone()),
    };
    request.extensions_mut().insert(origin);
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }

    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answer.unwrap_or_else(|_| Refusal::defect().into_response());

    let series = response.extensions().get::<Series>().copied();
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let mut written = refusal.render(&request_id);
        // What the router knew (`Allow`) goes along.
        for (name, value) in response.headers() {
            if !written.headers().contains_key(name) && name != axum::http::header::CONTENT_LENGTH {
                written.headers_mut().insert(name.clone(), value.clone());
            }
        }
        response = written;
    }
    let https = state.config.origin.as_ref().is_some_and(crate::config::Origin::is_https);
    // An application's answer is its own.
    if response.extensions().get::<FromApplication>().is_none() {
        decorate(response.headers_mut(), &request_id, https);
    }
    let millis = u64::try_from(clock.now().since(began).as_millis()).unwrap_or(u64::MAX);
    state.metrics.record(series, response.status().as_u16(), millis);
    tracing::debug!(%request_id, status = response.status().as_u16(), millis, "answered");
    response
}

fn request_id(state: &EdgeState) -> String {
    let mut random = [0; 12];
    // A request without chance is still a request: its name is then the same as others'.
    if state.plane.ports().entropy.fill(&mut random).is_err() {
        tracing::warn!("no randomness for request ids");
    }
    format!("req_{}", URL_SAFE_NO_PAD.encode(random))
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(200).collect())
}

fn decorate(headers: &mut HeaderMap, request_id: &str, https: bool) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
