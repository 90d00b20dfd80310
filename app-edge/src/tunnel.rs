//! Carries a WebSocket to a session's agent: the handshake is the agent's, the bytes are passed on unchanged.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{self, HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use burstflare_core::{Error, Kind};
use burstflare_ports::record::{Origin, TicketPurpose};
use burstflare_ports::secret::Secret;
use burstflare_ports::stream;
use burstflare_ports::wire::SSH_KEY_HEADER;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// How long the agent may take to answer the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes on their way in each direction; more waits at the sender.
const BUFFER: usize = 64 << 10;

/// Tunnels at once; further ones are refused.
const TUNNELS: usize = 2_000;

/// Places for tunnels.
#[derive(Debug, Clone)]
pub(crate) struct Tunnels(Arc<Semaphore>);

impl Default for Tunnels {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TUNNELS)))
    }
}

impl Tunnels {
    fn place(&self) -> Answer<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let full = Error::new(
                Kind::Unavailable,
                "too_many_connections",
                "The server carries as many connections as it can.",
                "Try again in a moment.",
            );
            full.after(Duration::from_secs(5)).into()
        })
    }
}

/// Opens an SSH connection for who has a ticket.
pub(crate) async fn ssh(
    state: &EdgeState,
    session: &str,
    ticket: Option<Secret<String>>,
    mut request: Request,
) -> Answer<Response> {
    // A ticket is spent once, so what is wrong with the request is said before.
    check(request.headers())?;
    let ticket = ticket.ok_or_else(|| Refusal::invalid("ticket", "the parameter ticket is missing"))?;
    let client = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(needs_upgrade)?;
    let place = state.tunnels.place()?;
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();

    let redeemed = state.plane.redeem(&ticket, session, TicketPurpose::Ssh, origin).await?;
    let call = handshake(request.headers(), redeemed.ticket.ssh_key.as_deref())?;
    let agents = &state.plane.ports().agents;
    let mut answer = agents.send(&redeemed.target, call, HANDSHAKE).await.map_err(Error::from)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(agent_refused(answer.status()));
    }
    let agent = answer.extensions_mut().remove::<OnUpgrade>().ok_or_else(Refusal::defect)?;
    tokio::spawn(async move {
        let (Ok(client), Ok(agent)) = (client.await, agent.await) else {
            tracing::debug!("a tunnel's upgrade did not come about");
            return;
        };
        let (mut client, mut agent) = (TokioIo::new(client), TokioIo::new(agent));
        let ended = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut agent, BUFFER, BUFFER).await;
        match ended {
            Ok((inward, outward)) => tracing::debug!(inward, outward, "a tunnel ended"),
            Err(error) => tracing::debug!(%error, "a tunnel broke"),
        }
        drop(place);
    });

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS]
    {
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

/// Whether it is a WebSocket handshake (RFC 6455, section 4.2.1).
fn check(headers: &HeaderMap) -> Answer<()> {
    let lists = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let whole = lists(CONNECTION, "upgrade")
        && lists(UPGRADE, "websocket")
        && headers.contains_key(SEC_WEBSOCKET_KEY)
        && version;
    if whole { Ok(()) } else { Err(needs_upgrade()) }
}

fn needs_upgrade() -> Refusal {
    Refusal::http(
        StatusCode::UPGRADE_REQUIRED,
        "websocket_required",
        "This route speaks WebSocket (version 13) alone.",
        "Connect with `flare ssh`, or with a WebSocket client.",
    )
}

/// The same handshake for the agent, with nothing of ours but the key that may log in.
fn handshake(headers: &HeaderMap, ssh_key: Option<&str>) -> Answer<http::Request<stream::Body>> {
    let mut call = http::Request::new(stream::Body::empty());
    *call.uri_mut() = http::Uri::from_static("/v1/ssh");
    let target = call.headers_mut();
    target.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    target.insert(UPGRADE, HeaderValue::from_static("websocket"));
    for name in [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS] {
        if let Some(value) = headers.get(&name) {
            target.insert(name, value.clone());
        }
    }
    let key = ssh_key.and_then(|key| HeaderValue::from_str(key).ok()).ok_or_else(Refusal::defect)?;
    target.insert(HeaderName::from_static(SSH_KEY_HEADER), key);
    Ok(call)
}

fn agent_refused(status: StatusCode) -> Refusal {
    Error::new(
        Kind::Unavailable,
        "agent_refused",
        format!("The session's machine refused the connection with status {}.", status.as_u16()),
        "Look at the session: `flare session show`; then connect again.",
    )
    .into()
}
