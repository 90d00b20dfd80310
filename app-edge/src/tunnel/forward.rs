use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use burstflare_core::service::agent_refusal;
use burstflare_ports::record::Origin;
use burstflare_ports::secret::Secret;

use super::{Door, HANDSHAKE, switched, websocket};
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// Opens one connection to a port for who has a ticket.
pub(crate) async fn forward(
    state: &EdgeState,
    session: &str,
    port: u16,
    ticket: Option<Secret<String>>,
    mut request: Request,
) -> Answer<Response> {
    // A ticket is spent once, so what is wrong with the request is said before.
    websocket::check(request.headers())?;
    let ticket = ticket.ok_or_else(|| Refusal::invalid("ticket", "the parameter ticket is missing"))?;
    let uri: Uri = format!("/v1/ports/{port}/tcp").parse().map_err(|_| Refusal::defect())?;
    let door = Door::of(state, &mut request)?;
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();

    let redeemed = state.plane.redeem_port(&ticket, session, port, origin).await?;
    let call = websocket::handshake(uri, request.headers());
    let answer = door.carry(&state.plane, &redeemed.target, call, HANDSHAKE, Some(redeemed.stay)).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switched(&answer));
    }
    if answer.status().is_server_error() {
        return Err(crate::preview::refusal(answer).await);
    }
    Err(agent_refusal(answer).await.into())
}
