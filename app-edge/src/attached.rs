//! Connections into a machine that are opened with a ticket.

use axum::extract::Request;
use axum::response::Response;

use crate::problem::Answer;
use crate::query::Query;
use crate::state::EdgeState;

/// What is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attached {
    /// The SSH server.
    Ssh,
    /// A command.
    Exec,
    /// A terminal, by its number.
    Terminal(u32),
    /// A TCP port.
    Port(u16),
}

/// Connects, with the ticket of the query.
pub(crate) async fn connect(
    state: &EdgeState,
    session: &str,
    what: Attached,
    mut query: Query,
    request: Request,
) -> Answer<Response> {
    let ticket = query.text("ticket")?.map(burstflare_ports::secret::Secret::new);
    query.finish()?;
    crate::tunnel::attached(state, session, what, ticket, request).await
}
