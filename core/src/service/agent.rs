//! Typed calls to a machine's agent.

use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::stream::{Body, ByteStream};
use burstflare_ports::wire::frame::Decoder;
use burstflare_ports::wire::port::OpenPorts;
use burstflare_ports::wire::tree::Summary;
use burstflare_ports::wire::{
    Activity, ExecRequest, OLDEST_PROTOCOL, PROTOCOL, Quiesce, Ready, Refusal, Secrets, Shutdown,
    UNKNOWN_CALL, UNKNOWN_CALL_MESSAGE,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};

use super::ControlPlane;
use crate::error::Error;

/// For calls that answer at once.
const QUICK: Duration = Duration::from_secs(10);
/// For calls that move a whole tree.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// The largest answer that is read into memory.
const ANSWER: usize = 64 << 10;

/// What an agent's answer that is no success means to a caller. Reads its body, up to a bound.
pub async fn agent_refusal(response: Response<Body>) -> Error {
    match checked(response).await {
        Err(error) => error.into(),
        Ok(response) => PortError::new(
            ErrorKind::Corrupt,
            "agent",
            format!("{} where something else was expected", response.status()),
        )
        .into(),
    }
}

impl ControlPlane {
    /// Waits for the agent to answer, up to `patience`, and checks that both speak a common version.
    pub(super) async fn agent_ready(&self, target: &AgentTarget, patience: Duration) -> PortResult<Ready> {
        let clock = &self.ports().clock;
        let until = clock.now().after(patience);
        let mut pause = Duration::from_millis(1);
        loop {
            let request = call(Method::GET, "/ready", Body::empty())?;
            let error = match self.agent_json::<Ready>(target, request, QUICK).await {
                Ok(ready) if ready.oldest_protocol > PROTOCOL || ready.protocol < OLDEST_PROTOCOL => {
                    return Err(PortError::new(
                        ErrorKind::Unsupported,
                        "agent.ready",
                        format!("the agent speaks version {}", ready.protocol),
                    ));
                }
                Ok(ready) => return Ok(ready),
                Err(error) => error,
            };
            let passing = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
            if !passing || clock.now() >= until {
                return Err(error);
            }
            clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Starts a command; the answer's body is JSON lines of [`burstflare_ports::wire::ExecOutput`].
    pub(super) async fn agent_exec(
        &self,
        target: &AgentTarget,
        request: &ExecRequest,
    ) -> PortResult<Response<Body>> {
        let response =
            self.ports().agents.send(target, with_json(Method::POST, "/v1/exec", request)?, QUICK).await?;
        checked(response).await
    }

    /// Unpacks a bundle into the first root.
    pub(super) async fn agent_unpack(&self, target: &AgentTarget, bundle: ByteStream) -> PortResult<Summary> {
        let request = call(Method::PUT, "/v1/bundle", Body::Stream(bundle))?;
        self.agent_json(target, request, LONG).await
    }

    /// Captures all roots. The stream is the archive; the summary is in the cell once the stream has ended well.
    pub(super) async fn agent_capture(
        &self,
        target: &AgentTarget,
    ) -> PortResult<(ByteStream, Arc<Mutex<Option<Summary>>>)> {
        let request = call(Method::GET, "/v1/tree", Body::empty())?;
        let response = checked(self.ports().agents.send(target, request, LONG).await?).await?;
        let summary = Arc::new(Mutex::new(None));
        Ok((unframe(response.into_body().into_stream(), Arc::clone(&summary)), summary))
    }

    /// Makes the roots exactly the tree of an archive, verified.
    pub(super) async fn agent_restore(
        &self,
        target: &AgentTarget,
        archive: ByteStream,
    ) -> PortResult<Summary> {
        let request = call(Method::PUT, "/v1/tree", Body::Stream(archive))?;
        self.agent_json(target, request, LONG).await
    }

    /// Runs `on_start`, in the background.
    pub(super) async fn agent_on_start(&self, target: &AgentTarget) -> PortResult<()> {
        self.agent_done(target, call(Method::POST, "/v1/hooks/start", Body::empty())?, QUICK).await
    }

    /// Tells the workspace's secrets.
    pub(super) async fn agent_secrets(
        &self,
        target: &AgentTarget,
        secrets: &Secrets,
        deadline: Duration,
    ) -> PortResult<()> {
        self.agent_done(target, with_json(Method::PUT, "/v1/secrets", secrets)?, deadline).await
    }

    /// When the user was last active, as the agent judges it.
    pub(super) async fn agent_activity(
        &self,
        target: &AgentTarget,
        deadline: Duration,
    ) -> PortResult<Activity> {
        self.agent_json(target, call(Method::GET, "/v1/activity", Body::empty())?, deadline).await
    }

    /// As [`Self::agent_quiesce`], unless something has happened since `mark`: then nothing is ended, and the
    /// answer is a `Conflict`.
    pub(super) async fn agent_quiesce_idle(
        &self,
        target: &AgentTarget,
        grace: Duration,
        mark: u64,
    ) -> PortResult<()> {
        let wish = Quiesce { if_idle_since: Some(mark), grace_ms: shutdown(grace).grace_ms };
        self.agent_done(target, with_json(Method::POST, "/v1/quiesce", &wish)?, grace + LONG).await
    }

    /// Ends the user's processes and flushes; the agent stays.
    pub(super) async fn agent_quiesce(&self, target: &AgentTarget, grace: Duration) -> PortResult<()> {
        let request = with_json(Method::POST, "/v1/quiesce", &shutdown(grace))?;
        self.agent_done(target, request, grace + LONG).await
    }

    /// Ends everything.
    pub(super) async fn agent_shutdown(&self, target: &AgentTarget, grace: Duration) -> PortResult<()> {
        let request = with_json(Method::POST, "/v1/shutdown", &shutdown(grace))?;
        self.agent_done(target, request, grace + QUICK).await
    }

    /// What listens now.
    pub(super) async fn agent_ports(&self, target: &AgentTarget) -> PortResult<OpenPorts> {
        self.agent_json(target, call(Method::GET, "/v1/ports", Body::empty())?, QUICK).await
    }

    /// Follows what listens: JSON lines of [`OpenPorts`], for as long as the machine lives and somebody reads.
    pub(super) async fn agent_watch_ports(&self, target: &AgentTarget) -> PortResult<ByteStream> {
        let request = call(Method::GET, "/v1/ports/watch", Body::empty())?;
        let response = checked(self.ports().agents.send(target, request, QUICK).await?).await?;
        Ok(response.into_body().into_stream())
    }

    async fn agent_done(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        deadline: Duration,
    ) -> PortResult<()> {
        checked(self.ports().agents.send(target, request, deadline).await?).await.map(drop)
    }

    pub(super) async fn agent_json<T: DeserializeOwned>(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        deadline: Duration,
    ) -> PortResult<T> {
        let response = checked(self.ports().agents.send(target, request, deadline).await?).await?;
        let bytes = response.into_body().collect(ANSWER, "agent").await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            PortError::new(ErrorKind::Corrupt, "agent", "an answer that is not understood").with_source(error)
        })
    }
}

fn shutdown(grace: Duration) -> Shutdown {
    Shutdown { grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }
}

/// A call without headers.
pub(super) fn call(method: Method, path: &str, body: Body) -> PortResult<Request<Body>> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .map_err(|error| PortError::new(ErrorKind::Internal, "agent", "a malformed call").with_source(error))
}

/// A call whose body is a message.
pub(super) fn with_json<T: Serialize>(method: Method, path: &str, message: &T) -> PortResult<Request<Body>> {
    let bytes = serde_json::to_vec(message).map_err(|error| {
        PortError::new(ErrorKind::Internal, "agent", "a message that cannot be written").with_source(error)
    })?;
    let mut request = call(method, path, Body::Full(bytes.into()))?;
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(request)
}

/// Turns a refusal of the agent into an error of the port.
pub(super) async fn checked(response: Response<Body>) -> PortResult<Response<Body>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = response.into_body().collect(ANSWER, "agent").await.unwrap_or_default();
    let refusal = serde_json::from_slice::<Refusal>(&bytes).ok();
    let code = refusal.as_ref().map(|refusal| refusal.code.as_str());
    let message = refusal.as_ref().map_or("", |refusal| refusal.message.as_str());
    // Version 1 has no code of its own for it.
    if status == StatusCode::NOT_FOUND && (code == Some(UNKNOWN_CALL) || message == UNKNOWN_CALL_MESSAGE) {
        let message = "the session's machine was started by an older version, which cannot do that";
        return Err(PortError::new(ErrorKind::Unsupported, "agent.call", message));
    }
    let kind = match status {
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => ErrorKind::Invalid,
        // Broken rules and damaged bytes have the same status; only damage is worth another attempt.
        StatusCode::UNPROCESSABLE_ENTITY if code == Some("invalid") => ErrorKind::Invalid,
        StatusCode::UNPROCESSABLE_ENTITY => ErrorKind::Corrupt,
        StatusCode::UNAUTHORIZED => ErrorKind::Denied,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::CONFLICT if code == Some("busy") => ErrorKind::Conflict,
        StatusCode::CONFLICT => ErrorKind::Stale,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge,
        StatusCode::INSUFFICIENT_STORAGE => ErrorKind::Full,
        StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let message = refusal.map_or_else(|| format!("the agent answered {status}"), |refusal| refusal.message);
    Err(PortError::new(kind, "agent", message))
}

/// Takes the frames off a stream. A stream that breaks off early ends in an error, never quietly.
fn unframe(framed: ByteStream, summary: Arc<Mutex<Option<Summary>>>) -> ByteStream {
    let state = Some((framed, Decoder::default(), summary));
    let corrupt = |error: burstflare_ports::wire::frame::FrameError| {
        PortError::new(ErrorKind::Corrupt, "agent.capture", error.to_string())
    };
    Box::pin(
        stream::try_unfold(state, move |state| async move {
            let Some((mut framed, mut decoder, summary)) = state else { return Ok(None) };
            loop {
                let Some(bytes) = framed.next().await else {
                    let trailer = decoder.finish().map_err(corrupt)?;
                    let read = serde_json::from_slice(&trailer).map_err(|error| {
                        PortError::new(ErrorKind::Corrupt, "agent.capture", "an unreadable summary")
                            .with_source(error)
                    })?;
                    *summary.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
                    return Ok(None);
                };
                let chunks: Vec<Bytes> = decoder.push(&bytes?).map_err(corrupt)?;
                if !chunks.is_empty() {
                    return Ok(Some((chunks, Some((framed, decoder, summary)))));
                }
            }
        })
        .map(|chunks: PortResult<Vec<Bytes>>| {
            stream::iter(match chunks {
                Ok(chunks) => chunks.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        })
        .flatten(),
    )
}
