//! WebSockets (RFC 6455) to the server.

use std::time::Duration;

use burstflare_ports::secret::Secret;
use futures_util::StreamExt;
use futures_util::stream::{SplitSink, SplitStream};
use http::{HeaderName, HeaderValue, header};
use tokio::io::BufReader;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::connect::{Wire, connect};
use super::{Client, USER_AGENT, VISITOR, authorization, problem, unreachable};
use crate::exit::Failure;

/// How long the other end may take to answer the handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// What one read of the connection takes at most.
const READ: usize = 256 << 10;
/// What the library takes of that at a time: it fills as much with zeros before each of its reads, so that with large
/// ones a keystroke's cost would be that of a page of memory many times over.
const PART: usize = 8 << 10;

/// Both halves of an open WebSocket.
pub struct Socket {
    /// To the server.
    pub sink: SplitSink<WebSocketStream<BufReader<Box<dyn Wire>>>, Message>,
    /// From the server.
    pub stream: SplitStream<WebSocketStream<BufReader<Box<dyn Wire>>>>,
}

/// Opens a WebSocket at a path that carries its single-use ticket; no other credentials are sent.
///
/// # Errors
/// When the server refuses or cannot be reached.
pub async fn open_socket(client: &Client, path_and_query: &str) -> Result<Socket, Failure> {
    let opened = open(client, path_and_query, None).await?;
    opened.ok_or_else(|| unreachable(client.origin(), "it speaks another protocol"))
}

/// Opens a WebSocket of the application behind a session's preview, as the owner of this token.
///
/// # Errors
/// As [`open_socket`].
pub async fn open_preview_socket(
    client: &Client,
    path_and_query: &str,
    token: &Secret<String>,
) -> Result<Socket, Failure> {
    let header = (HeaderName::from_static(VISITOR), authorization(token.expose())?);
    let opened = open(client, path_and_query, Some(header)).await?;
    opened.ok_or_else(|| unreachable(client.origin(), "it speaks another protocol"))
}

/// As [`open_socket`], with a subprotocol (RFC 6455 section 1.9); `None` when the other end does not speak it. The
/// ticket is spent then.
///
/// # Errors
/// As [`open_socket`].
pub async fn open_speaking(
    client: &Client,
    path_and_query: &str,
    subprotocol: &'static str,
) -> Result<Option<Socket>, Failure> {
    let header = (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    open(client, path_and_query, Some(header)).await
}

async fn open(
    client: &Client,
    path_and_query: &str,
    extra: Option<(HeaderName, HeaderValue)>,
) -> Result<Option<Socket>, Failure> {
    let origin = client.origin();
    let wire = BufReader::with_capacity(READ, connect(origin).await?);
    let scheme = if origin.is_secure() { "wss" } else { "ws" };
    let failed = |error: &dyn std::fmt::Display| unreachable(origin, &error.to_string());
    let mut request = format!("{scheme}://{}{path_and_query}", origin.authority())
        .into_client_request()
        .map_err(|error| failed(&error))?;
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    request.headers_mut().extend(extra);
    let config = WebSocketConfig::default()
        .read_buffer_size(PART)
        // Every message is flushed by who sends it; the bound is what a slow server may leave with us.
        .write_buffer_size(128 << 10)
        .max_write_buffer_size(8 << 20)
        .max_message_size(Some(16 << 20))
        .max_frame_size(Some(16 << 20));
    let shaking = timeout(HANDSHAKE, client_async_with_config(request, wire, Some(config)));
    match shaking.await.map_err(|_| failed(&"no answer to the handshake"))? {
        Ok((socket, _)) => {
            let (sink, stream) = socket.split();
            Ok(Some(Socket { sink, stream }))
        }
        Err(Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_))) => Ok(None),
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err(problem::failure(origin, response.status(), None, &body))
        }
        Err(error) => Err(failed(&error)),
    }
}
