use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use burstflare_core::service::terminal_refusal;
use burstflare_ports::record::{Origin, TicketPurpose};
use burstflare_ports::secret::Secret;

use super::{Door, HANDSHAKE, switched, websocket};
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// Opens a view of a terminal for who has a ticket.
pub(crate) async fn terminal(
    state: &EdgeState,
    session: &str,
    terminal: u32,
    ticket: Option<Secret<String>>,
    mut request: Request,
) -> Answer<Response> {
    // A ticket is spent once, so what is wrong with the request is said before.
    websocket::check(request.headers())?;
    let ticket = ticket.ok_or_else(|| Refusal::invalid("ticket", "the parameter ticket is missing"))?;
    let door = Door::of(state, &mut request)?;
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
    let uri = Uri::try_from(format!("/v1/terminals/{terminal}/view")).map_err(|_| Refusal::defect())?;

    let redeemed = state.plane.redeem(&ticket, session, TicketPurpose::Terminal, origin).await?;
    let call = websocket::handshake(uri, request.headers());
    let answer = door.carry(&state.plane, &redeemed.target, call, HANDSHAKE, Some(redeemed.stay)).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switched(&answer));
    }
    Err(terminal_refusal(answer).await.into())
}
