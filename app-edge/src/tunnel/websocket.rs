//! The WebSocket handshake as an edge passes it on (RFC 6455, section 4).

use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{self, HeaderMap, HeaderValue, StatusCode, Uri};
use burstflare_ports::stream;

use crate::problem::{Answer, Refusal};

/// Of the answer, beside `Connection` and `Upgrade`.
pub(super) const RESPONSE_HEADERS: [HeaderName; 3] =
    [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS];
/// Of the request, likewise.
const REQUEST_HEADERS: [HeaderName; 4] =
    [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS];

/// Whether it is a WebSocket handshake (section 4.2.1).
pub(crate) fn check(headers: &HeaderMap) -> Answer<()> {
    let lists = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    let version = || headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    // Elsewhere the host makes the handshake, and shows no more of it than that one was asked for.
    let ours = !cfg!(feature = "native")
        || (lists(CONNECTION, "upgrade") && headers.contains_key(SEC_WEBSOCKET_KEY) && version());
    let whole = lists(UPGRADE, "websocket") && ours;
    if whole { Ok(()) } else { Err(needs_upgrade()) }
}

/// The answer to a request that is none.
pub(super) fn needs_upgrade() -> Refusal {
    Refusal::http(
        StatusCode::UPGRADE_REQUIRED,
        "websocket_required",
        "This route speaks WebSocket (version 13) alone.",
        "Connect with `flare ssh` or `flare attach`, or with a WebSocket client.",
    )
}

/// The same handshake for the agent, with nothing else of the client's.
pub(crate) fn handshake(uri: Uri, headers: &HeaderMap) -> http::Request<stream::Body> {
    let mut call = http::Request::new(stream::Body::empty());
    *call.uri_mut() = uri;
    let target = call.headers_mut();
    target.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    target.insert(UPGRADE, HeaderValue::from_static("websocket"));
    for name in &REQUEST_HEADERS {
        if let Some(value) = headers.get(name) {
            target.insert(name, value.clone());
        }
    }
    call
}
