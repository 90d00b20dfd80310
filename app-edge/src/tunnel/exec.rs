use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use burstflare_core::service::agent_refusal;
use burstflare_ports::record::{Origin, TicketPurpose};
use burstflare_ports::secret::Secret;

use super::{Door, HANDSHAKE, switched, websocket};
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// Opens a connection for one command for who has a ticket.
pub(crate) async fn exec(
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

    let redeemed = state.plane.redeem(&ticket, session, TicketPurpose::Exec, origin).await?;
    let call = websocket::handshake(Uri::from_static("/v1/exec"), request.headers());
    let answer = door.carry(&state.plane, &redeemed.target, call, HANDSHAKE, Some(redeemed.stay)).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switched(&answer));
    }
    Err(agent_refusal(answer).await.into())
}
