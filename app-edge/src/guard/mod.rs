//! What is answered at all, before any route is looked at.
//!
//! A page of another site can make a browser send requests here, and a name that its owner points at 127.0.0.1
//! (DNS rebinding) makes them look like requests to itself. So the host must be one of ours, and what changes
//! something must come from our own pages or from no page.

mod host;
mod origin;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub(crate) use host::{Site, port_of};

use crate::config::DASHBOARD;
use crate::problem::Refusal;
use crate::state::EdgeState;

/// The layer.
pub(crate) async fn guard(State(state): State<EdgeState>, mut request: Request, next: Next) -> Response {
    let site = match host::site(&state.config, request.uri(), request.headers()) {
        Ok(site) => site,
        Err(refusal) => return refusal.into_response(),
    };
    // Content of users has an origin apart: no route of ours is there, and its own rules hold.
    if let Site::Preview(host) = &site {
        return crate::preview::answer(&state, host, request).await;
    }
    if let Err(refusal) = origin::check(&site, request.method(), request.headers()) {
        return refusal.into_response();
    }
    match &site {
        Site::Loopback { authority, dashboard: false } if is_navigation(&request) => {
            return redirect(authority, &request);
        }
        _ => {}
    }
    request.extensions_mut().insert(site);
    next.run(request).await
}

/// Where a request arrived, and whether it may change anything there.
#[cfg(feature = "fuzzing")]
pub(crate) fn probe(
    config: &crate::config::EdgeConfig,
    method: &Method,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
) -> crate::problem::Answer<(Site, bool)> {
    let site = host::site(config, uri, headers)?;
    let allowed = origin::check(&site, method, headers).is_ok();
    Ok((site, allowed))
}

/// A browser's navigation to a page, as far as its headers tell (Fetch Metadata).
fn is_navigation(request: &Request) -> bool {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    request.method() == Method::GET
        && header("sec-fetch-mode") == Some("navigate")
        && header(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html"))
        && !request.uri().path().starts_with("/api/")
}

/// To the dashboard's own name, so that cookies and storage belong to it and not to every server on this machine.
fn redirect(authority: &str, request: &Request) -> Response {
    let port = port_of(authority).map(|port| format!(":{port}")).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = format!("http://{DASHBOARD}{port}{path}");
    match HeaderValue::from_str(&target) {
        Ok(location) => {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location);
            (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
        }
        Err(_) => Refusal::invalid("path", "the path is not well formed").into_response(),
    }
}
