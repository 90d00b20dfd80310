//! Tunnels of a server of our own: the bytes of both sides go through it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{self, StatusCode};
use burstflare_core::service::{End, Stay};
use burstflare_core::{ControlPlane, Error, Kind};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::stream;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::copy;
use super::websocket::needs_upgrade;
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

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

/// The client's side of a tunnel that is not open yet: everything that may be missing, taken before a ticket is spent.
#[derive(Debug)]
pub(crate) struct Door<P = OwnedSemaphorePermit> {
    client: OnUpgrade,
    place: P,
}

impl Door {
    /// Takes the request's upgrade and a place.
    pub(crate) fn of(state: &EdgeState, request: &mut Request) -> Answer<Self> {
        let client = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(needs_upgrade)?;
        let place = Arc::clone(&state.tunnels.0).try_acquire_owned().map_err(|_| {
            let full = Error::new(
                Kind::Unavailable,
                "too_many_connections",
                "The server carries as many connections as it can.",
                "Try again in a moment.",
            );
            full.after(Duration::from_secs(5))
        })?;
        Ok(Self { client, place })
    }
}

impl<P: Send + 'static> Door<P> {
    /// Takes the request's upgrade where the place is another's than a tunnel's.
    pub(crate) fn with(request: &mut Request, place: P) -> Answer<Self> {
        let client = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(needs_upgrade)?;
        Ok(Self { client, place })
    }

    /// Makes `call`, and carries bytes both ways once the agent has switched protocols. The answer is the agent's head;
    /// one other than 101 comes with its body, nothing is carried then, and what it means is the caller's to say. The
    /// tunnel ends when a side hangs up or, with a `stay`, when that is over; its bytes are recorded then.
    pub(crate) async fn carry(
        self,
        plane: &ControlPlane,
        target: &AgentTarget,
        call: http::Request<stream::Body>,
        deadline: Duration,
        stay: Option<Stay>,
    ) -> Answer<http::Response<stream::Body>> {
        let mut answer = plane.ports().agents.send(target, call, deadline).await.map_err(Error::from)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let agent = answer.extensions_mut().remove::<OnUpgrade>().ok_or_else(Refusal::defect)?;
        let plane = plane.clone();
        let Self { client, place } = self;
        tokio::spawn(async move {
            let count = copy::Count::default();
            let carrying = copy::both_ways(client, agent, &count);
            let end = match &stay {
                Some(stay) => tokio::select! {
                    () = carrying => stay.over().unwrap_or(End::Left),
                    end = plane.stay_over(stay) => end,
                },
                None => {
                    carrying.await;
                    End::Left
                }
            };
            let (inward, outward) = count.bytes();
            tracing::debug!(inward, outward, end = end.name(), "a tunnel ended");
            drop(place);
            if let Some(stay) = stay {
                plane.leave(stay, inward, outward, end).await;
            }
        });
        Ok(answer)
    }

    /// Nothing of the answer is needed: the bytes are carried here.
    pub(super) fn leave_open(_answer: &mut http::Response<stream::Body>) -> http::Extensions {
        http::Extensions::new()
    }
}
