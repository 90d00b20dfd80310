use axum::extract::Request;
use axum::http::header::HeaderName;
use axum::http::{self, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use burstflare_core::service::{Redeemed, agent_refusal, terminal_refusal};
use burstflare_ports::record::{Origin, TicketPurpose};
use burstflare_ports::secret::Secret;
use burstflare_ports::stream;
use burstflare_ports::wire::SSH_KEY_HEADER;

use super::{Door, HANDSHAKE, switched, websocket};
use crate::attached::Attached;
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// Opens what a ticket is for.
pub(crate) async fn attached(
    state: &EdgeState,
    session: &str,
    what: Attached,
    ticket: Option<Secret<String>>,
    mut request: Request,
) -> Answer<Response> {
    // A ticket is spent once, so what is wrong with the request is said before.
    websocket::check(request.headers())?;
    let ticket = ticket.ok_or_else(|| Refusal::invalid("ticket", "the parameter ticket is missing"))?;
    let door = Door::of(state, &mut request)?;
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();

    let redeemed = redeem(state, session, what, &ticket, origin).await?;
    let mut call = websocket::handshake(uri(what)?, request.headers());
    if let Attached::Ssh = what {
        let key = redeemed.ticket.ssh_key.as_deref();
        let key = key.and_then(|key| HeaderValue::from_str(key).ok()).ok_or_else(Refusal::defect)?;
        call.headers_mut().insert(HeaderName::from_static(SSH_KEY_HEADER), key);
    }
    let answer = door.carry(&state.plane, &redeemed.target, call, HANDSHAKE, Some(redeemed.stay)).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switched(answer));
    }
    Err(refusal(what, answer).await)
}

async fn redeem(
    state: &EdgeState,
    session: &str,
    what: Attached,
    ticket: &Secret<String>,
    origin: Origin,
) -> Answer<Redeemed> {
    let purpose = match what {
        Attached::Ssh => TicketPurpose::Ssh,
        Attached::Exec => TicketPurpose::Exec,
        Attached::Terminal(_) => TicketPurpose::Terminal,
        Attached::Port(port) => return Ok(state.plane.redeem_port(ticket, session, port, origin).await?),
    };
    Ok(state.plane.redeem(ticket, session, purpose, origin).await?)
}

/// Where the agent has it.
fn uri(what: Attached) -> Answer<Uri> {
    let path = match what {
        Attached::Ssh => return Ok(Uri::from_static("/v1/ssh")),
        Attached::Exec => return Ok(Uri::from_static("/v1/exec")),
        Attached::Terminal(terminal) => format!("/v1/terminals/{terminal}/view"),
        Attached::Port(port) => format!("/v1/ports/{port}/tcp"),
    };
    Uri::try_from(path).map_err(|_| Refusal::defect())
}

/// What the agent's refusal means to the client.
async fn refusal(what: Attached, answer: http::Response<stream::Body>) -> Refusal {
    match what {
        Attached::Terminal(_) => terminal_refusal(answer).await.into(),
        Attached::Port(_) if answer.status().is_server_error() => crate::preview::refusal(answer).await,
        Attached::Ssh | Attached::Exec | Attached::Port(_) => agent_refusal(answer).await.into(),
    }
}
