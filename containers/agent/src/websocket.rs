//! The server's side of a WebSocket handshake, and the socket behind it.

use std::io;

use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::reply::{Refused, Reply, done};
use crate::server::Connection;

/// Checks the handshake of RFC 6455 section 4.2.1; answers the reply to send and what becomes of the connection.
pub(crate) fn accept(request: &mut Request<Incoming>) -> Result<(Reply, OnUpgrade), Refused> {
    let accept = accept_key(request.headers())?;
    let mut reply = done();
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok((reply, hyper::upgrade::on(request)))
}

fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Refused> {
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|_| {
        lists(headers, UPGRADE, "websocket")
            && lists(headers, CONNECTION, "upgrade")
            && lists(headers, SEC_WEBSOCKET_VERSION, "13")
    });
    let accept = key.map(derive_accept_key).and_then(|accept| accept.parse().ok());
    accept.ok_or_else(|| Refused::invalid("This call is a WebSocket of version 13."))
}

/// Whether a header that is a list of words has this one.
pub(crate) fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// The socket, once the reply is out.
pub(crate) async fn open(
    upgrade: OnUpgrade,
    config: WebSocketConfig,
) -> io::Result<WebSocketStream<Connection>> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<Connection>>()
        .map_err(|_| io::Error::other("the connection is of another kind"))?;
    let (connection, rest) = (parts.io.into_inner(), parts.read_buf.to_vec());
    Ok(WebSocketStream::from_partially_read(connection, rest, Role::Server, Some(config)).await)
}
