//! An application's answer as the visitor gets it: unchanged, but for what would reach beyond its own origin.

use axum::body::Body;
use axum::http::header::{
    ALT_SVC, CONNECTION, HeaderName, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{self, HeaderMap, HeaderValue};
use axum::response::Response;
use burstflare_ports::stream;
use burstflare_ports::stream::ByteStream;

use super::cookie;

/// Marks an answer as the application's own: no header of ours is put on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FromApplication;

/// Belong to one connection, or to the whole host and not to one origin of it.
const LEFT_OUT: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    // Another port of this host is not the application's.
    ALT_SVC,
];

/// The answer, its body as it comes.
pub(super) fn answer(
    answer: http::Response<stream::Body>,
    hold: impl FnOnce(ByteStream) -> ByteStream,
) -> Response {
    let (mut head, body) = answer.into_parts();
    clean(&mut head.headers);
    let mut response = Response::new(match body {
        stream::Body::Full(bytes) => Body::from(bytes),
        stream::Body::Stream(flow) => Body::from_stream(hold(flow)),
    });
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response.extensions_mut().insert(FromApplication);
    response
}

/// Takes out what may not go to the visitor.
pub(super) fn clean(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("flare-")).cloned().collect();
    for name in ours.into_iter().chain(LEFT_OUT) {
        headers.remove(name);
    }
    let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter_map(cookie::admit).collect();
    headers.remove(SET_COOKIE);
    for value in cookies {
        headers.append(SET_COOKIE, value);
    }
    let cleared: Vec<String> = headers
        .get_all(cookie::CLEAR_SITE_DATA)
        .iter()
        .filter_map(|value| cookie::clear_site_data(value.to_str().ok()?))
        .collect();
    headers.remove(cookie::CLEAR_SITE_DATA);
    if !cleared.is_empty()
        && let Ok(value) = HeaderValue::from_str(&cleared.join(", "))
    {
        headers.insert(cookie::CLEAR_SITE_DATA, value);
    }
}
