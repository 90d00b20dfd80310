//! Calls to a machine's agent: HTTP/1.1 on its unix socket, with connections kept for the next call.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{AgentTarget, Epoch};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::EPOCH_HEADER;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::socket;
use super::turns::Kept;
use super::visit::{Counted, Visit, Visits};

const SEND: &str = "agent.send";
/// Calls and streams that one machine carries at a time.
const CONNECTIONS: usize = 512;
/// Connections kept for the next call.
const IDLE: usize = 8;
/// The call that only listens: nothing comes to the machine by it.
const LISTENS: &str = "/v1/ports/watch";

type Chunks = futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, PortError>>;
type Sent = Either<Full<Bytes>, StreamBody<Chunks>>;

/// What carries calls to one machine's agent.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Connections to it.
    pub connections: Connections,
    /// Its machine's place among the starts, until it answers.
    pub turn_of_start: Kept,
}

/// The connections to one agent.
#[derive(Debug)]
pub(crate) struct Connections {
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
    /// Those by which something may come to the machine. Without one, and without a process besides its agent, a machine
    /// does nothing.
    pub visits: Visits,
}

impl Default for Connections {
    fn default() -> Self {
        Self { idle: Mutex::default(), places: Arc::new(Semaphore::new(CONNECTIONS)), visits: Visits::new(0) }
    }
}

#[derive(Debug)]
struct Connection {
    epoch: Epoch,
    sender: SendRequest<Sent>,
    /// Owned by the stream: one that is kept here is closed by then, perhaps.
    visit: Weak<Visit>,
}

impl Connections {
    /// Forgets all idle connections: their machine ended.
    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self, epoch: Epoch) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| connection.epoch == epoch && !connection.sender.is_closed());
        let ready = idle.iter().position(|connection| connection.sender.is_ready())?;
        Some(idle.swap_remove(ready))
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }
}

/// Sends a call; see [`burstflare_ports::machine::AgentLink::send`].
pub(crate) async fn send(
    line: &Arc<Line>,
    folder: &Path,
    target: &AgentTarget,
    request: http::Request<Body>,
    deadline: Duration,
) -> PortResult<http::Response<Body>> {
    let request = authenticated(target, request)?;
    let call = exchange(line, folder, target.epoch, request);
    tokio::time::timeout(deadline, call)
        .await
        .map_err(|_| PortError::new(ErrorKind::Timeout, SEND, "the agent did not answer in time"))?
}

fn authenticated(target: &AgentTarget, request: http::Request<Body>) -> PortResult<http::Request<Sent>> {
    let (mut head, body) = request.into_parts();
    let refused = |_| PortError::new(ErrorKind::Invalid, SEND, "the agent's key is no header value");
    let mut key = HeaderValue::try_from(format!("Bearer {}", target.key.expose())).map_err(refused)?;
    key.set_sensitive(true);
    head.headers.insert(AUTHORIZATION, key);
    head.headers.insert(EPOCH_HEADER, HeaderValue::from(target.epoch));
    if !head.headers.contains_key(HOST) {
        head.headers.insert(HOST, HeaderValue::from_static("agent"));
    }
    // The agent is asked for a path; which server it is was decided by the socket.
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    head.uri = path.parse().map_err(|error| {
        PortError::new(ErrorKind::Invalid, SEND, "no path to ask for").with_source(Box::new(error) as Box<_>)
    })?;
    let body = match body {
        Body::Full(bytes) => Either::Left(Full::new(bytes)),
        Body::Stream(chunks) => {
            Either::Right(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)).boxed()))
        }
    };
    Ok(http::Request::from_parts(head, body))
}

async fn exchange(
    line: &Arc<Line>,
    folder: &Path,
    epoch: Epoch,
    mut request: http::Request<Sent>,
) -> PortResult<http::Response<Body>> {
    let place = Arc::clone(&line.connections.places)
        .acquire_owned()
        .await
        .map_err(|_| PortError::new(ErrorKind::Internal, SEND, "the machine takes no more calls"))?;
    let listens = request.uri().path() == LISTENS;
    // A kept connection may have been closed meanwhile; a request that never left can go on another one.
    while let Some(mut connection) = line.connections.take(epoch) {
        match connection.sender.try_send_request(request).await {
            Ok(reply) => return Ok(answer(line, connection, place, reply, listens)),
            Err(mut refused) => match refused.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(broken(refused.into_error())),
            },
        }
    }
    let mut connection = dial(line, folder, epoch).await?;
    let reply = connection.sender.send_request(request).await.map_err(broken)?;
    Ok(answer(line, connection, place, reply, listens))
}

async fn dial(line: &Line, folder: &Path, epoch: Epoch) -> PortResult<Connection> {
    let absent = |error: io::Error| {
        PortError::new(ErrorKind::Unavailable, SEND, "no agent listens").with_source(error)
    };
    let stream = socket::connect(folder, "agent.sock").await.map_err(absent)?;
    let visit = Visit::begin(&line.connections.visits);
    let noted = Arc::downgrade(&visit);
    let stream = TokioIo::new(Counted { stream, visit });
    let (sender, connection) = http1::Builder::new().handshake(stream).await.map_err(broken)?;
    tokio::spawn(async move {
        // Whoever waits for an answer hears of it; between answers it is of no interest.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to an agent ended");
        }
    });
    Ok(Connection { epoch, sender, visit: noted })
}

fn broken(error: hyper::Error) -> PortError {
    // An error of the body that was being sent is the caller's own.
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        if let Some(own) = inner.downcast_ref::<PortError>() {
            return PortError::new(own.kind(), SEND, own.to_string());
        }
        source = inner.source();
    }
    PortError::new(ErrorKind::Unavailable, SEND, "the connection to the agent broke").with_source(error)
}

/// Hands the reply on; its connection is kept once the body was read to its end.
fn answer(
    line: &Arc<Line>,
    connection: Connection,
    place: OwnedSemaphorePermit,
    reply: http::Response<Incoming>,
    listens: bool,
) -> http::Response<Body> {
    line.turn_of_start.pass_on();
    if listens && let Some(visit) = connection.visit.upgrade() {
        visit.listens();
    }
    let (head, body) = reply.into_parts();
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        // The upgrade handle in the extensions owns the connection now, and with it this call's place.
        let mut head = head;
        head.extensions.insert(Place(Arc::new(place)));
        return http::Response::from_parts(head, Body::empty());
    }
    let state = Reading { body, kept: Some((Arc::clone(line), connection, place)) };
    let chunks = futures_util::stream::unfold(Some(state), move |state| async move {
        let mut state = state?;
        loop {
            match state.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), Some(state)));
                    }
                }
                Some(Err(error)) => return Some((Err(broken(error)), None)),
                None => {
                    if let Some((line, connection, place)) = state.kept.take() {
                        drop(place);
                        if !listens {
                            keep_when_ready(line, connection);
                        }
                    }
                    return None;
                }
            }
        }
    });
    http::Response::from_parts(head, Body::Stream(Box::pin(chunks)))
}

struct Reading {
    body: Incoming,
    kept: Option<(Arc<Line>, Connection, OwnedSemaphorePermit)>,
}

/// Counts an upgraded connection for as long as its reply is kept.
#[derive(Debug, Clone)]
struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// The connection takes a moment after the last chunk until it can carry the next call.
fn keep_when_ready(line: Arc<Line>, mut connection: Connection) {
    tokio::spawn(async move {
        if connection.sender.ready().await.is_ok() {
            line.connections.keep(connection);
        }
    });
}
