//! A visitor's request as the application gets it: everything of the visitor's, nothing of ours, and the truth about
//! where it came from.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use axum::http::uri::PathAndQuery;
use axum::http::{self, HeaderMap, HeaderName, HeaderValue, StatusCode};
use burstflare_core::domain::token_text;
use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::stream;
use burstflare_ports::wire::port::{APP_AUTHORIZATION_HEADER, APP_HOST_HEADER};
use futures_util::StreamExt;

use super::cookie;
use super::host::PreviewHost;
use crate::config::ClientAddress;
use crate::problem::{Answer, Refusal};

/// Belong to one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
];
/// Are ours to say. Names count with underscores too: some gateways make no difference.
const TOLD_BY_US: [&str; 5] = ["forwarded", "x-forwarded-", "x-real-ip", "x-client-ip", "true-client-ip"];
/// Every header of ours.
const OURS: &str = "flare-";

/// Whether a visitor's body broke off: then it is not the machine that failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Broken(Arc<AtomicBool>);

impl Broken {
    /// What to say then.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.0.load(Ordering::Relaxed).then(|| {
            Refusal::http(
                StatusCode::BAD_REQUEST,
                "body_broken",
                "The request's body broke off or is not well formed.",
                "Send it again, whole.",
            )
        })
    }
}

/// The agent's call for a request.
pub(super) fn call(
    host: &PreviewHost,
    request: Request,
    upgrade: bool,
    broken: &Broken,
) -> Answer<http::Request<stream::Body>> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if !path.starts_with('/') {
        return Err(Refusal::invalid("path", "the path has to begin with a slash"));
    }
    let uri = format!("/v1/ports/{}/http{path}", host.place.port);
    let uri = uri.parse().map_err(|_| Refusal::invalid("path", "the path is not well formed"))?;
    let has_body = has_body(&head.headers)?;
    clean(&mut head.headers);
    tell(&mut head.headers, host, head.extensions.get::<ClientAddress>().map(|address| address.0))?;
    if upgrade {
        head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let body = if has_body { flow(body, broken.clone()) } else { stream::Body::empty() };
    let mut call = http::Request::new(body);
    *call.method_mut() = head.method;
    *call.uri_mut() = uri;
    *call.headers_mut() = head.headers;
    Ok(call)
}

/// A browser's question for itself: without anything that says who asks.
pub(super) fn without_credentials(headers: &mut HeaderMap) {
    for name in [COOKIE, AUTHORIZATION] {
        headers.remove(name);
    }
}

/// Framing by length and by chunks at once is how requests are smuggled past a proxy (RFC 9112, section 6.3).
fn has_body(headers: &HeaderMap) -> Answer<bool> {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let length = headers.get(CONTENT_LENGTH);
    if chunked && length.is_some() {
        return Err(Refusal::http(
            StatusCode::BAD_REQUEST,
            "framing",
            "The request says its length in two ways.",
            "Send either Content-Length or Transfer-Encoding.",
        ));
    }
    Ok(chunked || length.is_some_and(|length| length != "0"))
}

fn flow(body: Body, broken: Broken) -> stream::Body {
    let chunks = body.into_data_stream().map(move |chunk| {
        chunk.map_err(|_| {
            broken.0.store(true, Ordering::Relaxed);
            PortError::new(ErrorKind::Invalid, "preview.body", "the visitor's body broke off")
        })
    });
    stream::Body::Stream(chunks.boxed())
}

fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let ours: Vec<HeaderName> = headers.keys().filter(|name| is_ours_to_say(name)).cloned().collect();
    for name in named.into_iter().chain(HOP_BY_HOP).chain(ours) {
        headers.remove(name);
    }
    cookie::strip(headers);
    let own = headers.remove(AUTHORIZATION);
    if let Some(own) = own.filter(|own| !is_token_of_ours(own)) {
        headers.insert(HeaderName::from_static(APP_AUTHORIZATION_HEADER), own);
    }
}

fn is_ours_to_say(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.starts_with(OURS) || TOLD_BY_US.iter().any(|known| name.starts_with(known))
}

/// The user's own `Authorization` passes; one that would give our tokens to the application does not.
fn is_token_of_ours(value: &HeaderValue) -> bool {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.split_ascii_whitespace().any(token_text::has_prefix)
}

/// Says where the request came from, and for which host.
fn tell(headers: &mut HeaderMap, host: &PreviewHost, client: Option<IpAddr>) -> Answer<()> {
    let value = |text: String| HeaderValue::try_from(text).map_err(|_| Refusal::defect());
    headers.remove(HOST);
    headers.insert(HeaderName::from_static(APP_HOST_HEADER), value(host.authority.clone())?);
    headers.insert(HeaderName::from_static("x-forwarded-host"), value(host.authority.clone())?);
    headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(host.scheme()));
    let mut forwarded = format!("host=\"{}\";proto={}", host.authority, host.scheme());
    if let Some(client) = client {
        headers.insert(HeaderName::from_static("x-forwarded-for"), value(client.to_string())?);
        let node = if client.is_ipv6() { format!("\"[{client}]\"") } else { client.to_string() };
        forwarded = format!("for={node};{forwarded}");
    }
    headers.insert(FORWARDED, value(forwarded)?);
    Ok(())
}
