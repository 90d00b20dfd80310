//! Terminals of a running session. The agent keeps them; here it is decided who may, and it is recorded.

use std::time::Duration;

use burstflare_ports::record::Session;
use burstflare_ports::store::{ChangeSet, Family};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::Refusal;
use burstflare_ports::wire::terminal::{NewTerminal, Terminal, Terminals};
use http::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::agent::{agent_refusal, call, with_json};
use super::{Caller, ControlPlane, refusal};
use crate::error::{Error, Kind, Result};

/// For calls that answer at once.
const QUICK: Duration = Duration::from_secs(15);
/// The largest answer: the list, with command lines.
const ANSWER: usize = 8 << 20;

impl ControlPlane {
    /// The session's terminals, the oldest first.
    ///
    /// # Errors
    /// `not_running`, `Forbidden`.
    pub async fn terminals(&self, caller: &Caller, session: &str) -> Result<Vec<Terminal>> {
        let session = self.running(caller, session).await?;
        let request = call(Method::GET, "/v1/terminals", Body::empty())?;
        let list: Terminals = document(self.terminal_call(&session, request).await?).await?;
        Ok(list.items)
    }

    /// Makes a terminal.
    ///
    /// # Errors
    /// `not_running`, `Forbidden`, `too_many_terminals`, what cannot be started.
    pub async fn create_terminal(
        &self,
        caller: &Caller,
        session: &str,
        wish: &NewTerminal,
    ) -> Result<Terminal> {
        let session = self.running(caller, session).await?;
        let detail = json!({ "program": wish.argv.first(), "epoch": session.epoch });
        self.record_terminal(caller, &session, "session.terminal.create", detail).await?;
        let request = with_json(Method::POST, "/v1/terminals", wish)?;
        document(self.terminal_call(&session, request).await?).await
    }

    /// Ends a terminal with its programs.
    ///
    /// # Errors
    /// `not_running`, `Forbidden`, `not_found`.
    pub async fn close_terminal(&self, caller: &Caller, session: &str, terminal: u32) -> Result<()> {
        let session = self.running(caller, session).await?;
        let detail = json!({ "terminal": terminal, "epoch": session.epoch });
        self.record_terminal(caller, &session, "session.terminal.close", detail).await?;
        let request = call(Method::DELETE, &format!("/v1/terminals/{terminal}"), Body::empty())?;
        self.terminal_call(&session, request).await.map(drop)
    }

    async fn record_terminal(
        &self,
        caller: &Caller,
        session: &Session,
        action: &str,
        detail: Value,
    ) -> Result<()> {
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.audit.push(caller.audit(self, action, session.id, detail));
        self.commit(change).await.map_err(refusal)
    }

    async fn terminal_call(&self, session: &Session, request: Request<Body>) -> Result<Response<Body>> {
        let target = self.target(session)?;
        match self.ports().agents.send(&target, request, QUICK).await {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => Err(terminal_refusal(response).await),
            Err(error) => {
                // Perhaps the machine is gone: the actor finds out.
                self.ports().actors.wake(session.workspace, session.id).await.ok();
                Err(error.into())
            }
        }
    }
}

/// What an agent's refusal of a call about a terminal means.
pub async fn terminal_refusal(response: Response<Body>) -> Error {
    let status = response.status();
    let (head, body) = response.into_parts();
    let bytes = body.collect(ANSWER, "agent").await.unwrap_or_default();
    let said = serde_json::from_slice::<Refusal>(&bytes).ok();
    match (status, said) {
        (StatusCode::NOT_FOUND, Some(said)) if said.code == "not_found" => Error::new(
            Kind::NotFound,
            "not_found",
            said.message,
            "List what is there: `flare attach SESSION --list`.",
        ),
        (StatusCode::CONFLICT, Some(said)) if said.code == "busy" => {
            Error::conflict("busy", said.message, "Close a terminal, or wait for one to end.")
        }
        (StatusCode::CONFLICT | StatusCode::UNAUTHORIZED, _) => Error::conflict(
            "not_running",
            "The session's machine was ended or started anew in this moment.",
            "Try again: `flare session start` waits until it runs.",
        ),
        (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, Some(said)) => {
            Error::new(Kind::Invalid, "invalid", said.message, "Correct it and send the request again.")
        }
        _ => agent_refusal(Response::from_parts(head, Body::Full(bytes))).await,
    }
}

async fn document<T: DeserializeOwned>(response: Response<Body>) -> Result<T> {
    let bytes = response.into_body().collect(ANSWER, "agent").await?;
    serde_json::from_slice(&bytes).map_err(|error| super::fault("agent.terminals", error))
}
