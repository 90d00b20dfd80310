//! Carries a connection that was upgraded to a session's agent: the handshake is the agent's, the bytes are passed on
//! unchanged, and everything ends when the right to be there does.

mod attached;
#[cfg(feature = "native")]
mod carry;
#[cfg(feature = "native")]
mod copy;
#[cfg(not(feature = "native"))]
mod pass;
mod websocket;

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{self, StatusCode};
use axum::response::Response;
use burstflare_ports::stream;

pub(crate) use self::attached::attached;
#[cfg(feature = "native")]
pub(crate) use self::carry::{Door, Tunnels};
#[cfg(not(feature = "native"))]
pub(crate) use self::pass::Door;
use self::websocket::RESPONSE_HEADERS;

/// How long the agent may take to answer a handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// The client's answer to an agent's that switched protocols: its head without anything but the handshake, and what the
/// host needs to go on with it.
pub(crate) fn switched(mut answer: http::Response<stream::Body>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in [CONNECTION, UPGRADE].iter().chain(&RESPONSE_HEADERS) {
        if let Some(value) = answer.headers().get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    *response.extensions_mut() = Door::<()>::leave_open(&mut answer);
    response
}
