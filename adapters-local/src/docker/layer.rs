//! A layer is put into a fresh disk by the agent: the same call as on every runtime without overlays.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::blob::Blobs;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{AgentTarget, LayerRef};
use burstflare_ports::stream::Body;
use burstflare_ports::wire;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode};
use tokio::time::{Instant, sleep};

use super::engine::{Engine, Phase};
use super::record;
use crate::machine::link::{self, Line};

const START: &str = "machine.start";
/// For the agent to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(60);
/// For one question.
const QUESTION: Duration = Duration::from_secs(5);
/// For a layer to be sent and unpacked.
const LAYER: Duration = Duration::from_secs(600);

/// Whom to talk to.
pub(super) struct Place<'a> {
    /// The container.
    pub container: &'a str,
    /// The machine's folder.
    pub folder: &'a Path,
    /// What carries calls.
    pub line: &'a Arc<Line>,
    /// Whom they are for.
    pub target: AgentTarget,
}

/// Puts a layer into the roots, and makes sure that it is the right one.
pub(super) async fn put(
    engine: &Engine,
    place: Place<'_>,
    blobs: &dyn Blobs,
    layer: &LayerRef,
) -> PortResult<()> {
    answers(engine, &place).await?;
    let (_, archive) = blobs.get(&layer.blob, None).await?;
    let mut request = call(Method::PUT, "/v1/tree", Body::Stream(archive))?;
    request.headers_mut().insert(CONTENT_LENGTH, layer.size.into());
    let run = record::run_folder(place.folder);
    let answer = link::send(place.line, &run, &place.target, request, LAYER).await?;
    let status = answer.status();
    let text = answer.into_body().collect(64 << 10, START).await?;
    let summary = serde_json::from_slice::<wire::tree::Summary>(&text).ok().filter(|_| status.is_success());
    match summary {
        Some(summary) if summary.digest == layer.digest => Ok(()),
        Some(summary) => Err(PortError::new(
            ErrorKind::Corrupt,
            START,
            format!("the layer should be {} and is {}", layer.digest, summary.digest),
        )),
        None => {
            let kind = match status {
                StatusCode::INSUFFICIENT_STORAGE => ErrorKind::Full,
                StatusCode::UNPROCESSABLE_ENTITY => ErrorKind::Corrupt,
                _ => ErrorKind::Unavailable,
            };
            Err(PortError::new(kind, START, format!("the agent did not take the layer: {status}")))
        }
    }
}

/// Waits until the agent answers, or has ended.
async fn answers(engine: &Engine, place: &Place<'_>) -> PortResult<()> {
    let until = Instant::now() + PATIENCE;
    let run = record::run_folder(place.folder);
    let mut pause = Duration::from_millis(2);
    loop {
        let question = call(Method::GET, "/ready", Body::empty())?;
        let error = match link::send(place.line, &run, &place.target, question, QUESTION).await {
            Ok(answer) if answer.status() == StatusCode::OK => {
                // Read to its end, so that the connection serves the next call.
                answer.into_body().collect(64 << 10, START).await?;
                return Ok(());
            }
            Ok(answer) => PortError::new(
                ErrorKind::Unavailable,
                START,
                format!("the agent answers {}", answer.status()),
            ),
            Err(error) => error,
        };
        if pause > Duration::from_millis(50) && engine.phase(place.container).await? != Some(Phase::Running) {
            let words = engine.last_words(place.container).await;
            return Err(PortError::new(
                ErrorKind::Internal,
                START,
                format!("the agent ended at once: {words}"),
            ));
        }
        if Instant::now() >= until {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn call(method: Method, path: &'static str, body: Body) -> PortResult<Request<Body>> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .map_err(|error| PortError::new(ErrorKind::Internal, START, "a call of our own").with_source(error))
}
