//! Tunnels of a host that joins two connections by itself: the agent's socket is handed to the client as it came, and no
//! byte is seen here. So nothing is counted either, the end is not recorded, and a revoked right ends with the next
//! connection instead of with this one.

use std::time::Duration;

use axum::extract::Request;
use axum::http;
use burstflare_core::service::Stay;
use burstflare_core::{ControlPlane, Error};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::stream;

use crate::problem::Answer;
use crate::state::EdgeState;

/// The client's side of a tunnel that is not open yet; how many there may be is the host's to say.
#[derive(Debug)]
pub(crate) struct Door<P = ()> {
    _place: P,
}

impl Door {
    /// Nothing has to be taken.
    pub(crate) fn of(_state: &EdgeState, _request: &mut Request) -> Answer<Self> {
        Ok(Self { _place: () })
    }
}

impl<P: Send + 'static> Door<P> {
    /// With a place that is held until the tunnel is open; who leaves it is not seen here.
    pub(crate) fn with(_request: &mut Request, place: P) -> Answer<Self> {
        Ok(Self { _place: place })
    }

    /// Makes `call`. The answer is the agent's head; one that switched protocols holds the agent's socket.
    pub(crate) async fn carry(
        self,
        plane: &ControlPlane,
        target: &AgentTarget,
        call: http::Request<stream::Body>,
        deadline: Duration,
        stay: Option<Stay>,
    ) -> Answer<http::Response<stream::Body>> {
        let answer = plane.ports().agents.send(target, call, deadline).await.map_err(Error::from)?;
        drop(stay);
        Ok(answer)
    }

    /// The agent's socket, for the client's answer.
    pub(super) fn leave_open(answer: &mut http::Response<stream::Body>) -> http::Extensions {
        std::mem::take(answer.extensions_mut())
    }
}
