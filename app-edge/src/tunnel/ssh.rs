use axum::extract::Request;
use axum::http::header::HeaderName;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use burstflare_core::service::agent_refusal;
use burstflare_ports::record::{Origin, TicketPurpose};
use burstflare_ports::secret::Secret;
use burstflare_ports::wire::SSH_KEY_HEADER;

use super::{Door, HANDSHAKE, switched, websocket};
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// Opens an SSH connection for who has a ticket.
pub(crate) async fn ssh(
    state: &EdgeState,
    session: &str,
    ticket: Option<Secret<String>>,
    mut request: Request,
) -> Answer<Response> {
    // A ticket is spent once, so what is wrong with the request is said before.
    websocket::check(request.headers())?;
    let ticket = ticket.ok_or_else(|| Refusal::invalid("ticket", "the parameter ticket is missing"))?;
    let door = Door::of(state, &mut request)?;
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();

    let redeemed = state.plane.redeem(&ticket, session, TicketPurpose::Ssh, origin).await?;
    let mut call = websocket::handshake(Uri::from_static("/v1/ssh"), request.headers());
    let key = redeemed.ticket.ssh_key.as_deref();
    let key = key.and_then(|key| HeaderValue::from_str(key).ok()).ok_or_else(Refusal::defect)?;
    call.headers_mut().insert(HeaderName::from_static(SSH_KEY_HEADER), key);

    let answer = door.carry(&state.plane, &redeemed.target, call, HANDSHAKE, Some(redeemed.stay)).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switched(&answer));
    }
    Err(agent_refusal(answer).await.into())
}
