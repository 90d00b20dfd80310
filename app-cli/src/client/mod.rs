//! The client of the API: HTTP/1.1 over connections that are kept, deadlines everywhere, no redirects, and
//! credentials that go to their own origin only.

mod call;
mod connect;
mod events;
mod origin;
mod problem;
mod reply;
mod socket;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::{sleep, timeout};

pub use call::{Call, MakePayload, Payload};
pub(crate) use connect::connect;
pub use connect::unreachable;
pub use events::{Event, Events};
pub use origin::Origin;
pub use problem::exit_of;
pub use reply::Reply;
pub use socket::{Socket, open_preview_socket, open_socket, open_speaking};

use crate::credential::Bearer;
use crate::exit::{Exit, Failure};

/// How a script shows a session's preview who it is: `Authorization` is the application's own.
const VISITOR: &str = "flare-authorization";

const TRIES: u32 = 3;
/// The longest pause that a server may ask for before we give up instead of waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Talks to one server as one user.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Origin,
    bearer: Bearer,
    idle: Mutex<Vec<SendRequest<Payload>>>,
}

impl Client {
    /// A client of this server with these credentials.
    #[must_use]
    pub fn new(origin: Origin, bearer: Bearer) -> Self {
        Self { shared: Arc::new(Shared { origin, bearer, idle: Mutex::default() }) }
    }

    /// The server.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// Sends a call; an error status is a [`Failure`]. What may be repeated is repeated when the connection broke or
    /// the server asked to wait a moment; an expired token is refreshed once.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        let mut refreshed = false;
        let mut tried = 1;
        loop {
            let bearer = match call.anonymous {
                true => None,
                false => self.shared.bearer.current(self).await?,
            };
            let reply = match self.once(call, bearer.as_deref()).await {
                Ok(reply) => reply,
                Err(Broken::Unsent(_)) if tried < TRIES => {
                    tried += 1;
                    continue;
                }
                Err(Broken::Cut(_)) if tried < TRIES && call.is_repeatable() => {
                    pause(tried).await;
                    tried += 1;
                    continue;
                }
                Err(broken) => return Err(broken.into_failure()),
            };
            let status = reply.status();
            if status.is_success() {
                return Ok(reply);
            }
            if status == StatusCode::UNAUTHORIZED && !refreshed && !call.anonymous {
                refreshed = true;
                if self.shared.bearer.renew(self, bearer.as_deref()).await? {
                    continue;
                }
            }
            let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            if let Some(wait) = reply.retry_after().filter(|wait| busy && *wait <= PATIENCE && tried < TRIES)
            {
                // The server said so itself: the request was not acted upon.
                tried += 1;
                sleep(wait).await;
                continue;
            }
            return Err(reply.into_failure(&self.shared.origin).await);
        }
    }

    /// Sends a call and reads the JSON document of the answer; null where there is none.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn json(&self, call: &Call) -> Result<Value, Failure> {
        self.send(call).await?.json().await
    }

    async fn once(&self, call: &Call, bearer: Option<&str>) -> Result<Reply, Broken> {
        let mut sender = self.connection().await?;
        let request = self.request(call, bearer).map_err(Broken::Fatal)?;
        let sent = timeout(call.deadline, sender.send_request(request)).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let failure = unreachable(&self.shared.origin, "the connection broke");
                return Err(if error.is_canceled() { Broken::Unsent(failure) } else { Broken::Cut(failure) });
            }
            Err(_) => {
                let seconds = call.deadline.as_secs();
                return Err(Broken::Fatal(
                    Failure::new(
                        Exit::Timeout,
                        format!("the server did not answer within {seconds} seconds"),
                    )
                    .hint("Try again; `flare doctor` looks for what is wrong."),
                ));
            }
        };
        if let Ok(mut idle) = self.shared.idle.lock() {
            idle.push(sender);
        }
        Ok(Reply::new(response))
    }

    /// An idle connection, or a new one.
    async fn connection(&self) -> Result<SendRequest<Payload>, Broken> {
        if let Ok(mut idle) = self.shared.idle.lock() {
            idle.retain(|sender| !sender.is_closed());
            if let Some(at) = idle.iter().position(SendRequest::is_ready) {
                return Ok(idle.swap_remove(at));
            }
        }
        let stream = connect(&self.shared.origin).await.map_err(Broken::Fatal)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Broken::Fatal(unreachable(&self.shared.origin, &error.to_string())))?;
        tokio::spawn(async move {
            // Its errors reach whoever waits for an answer on it.
            let _ = connection.await;
        });
        sender
            .ready()
            .await
            .map_err(|_| Broken::Unsent(unreachable(&self.shared.origin, "the connection broke")))?;
        Ok(sender)
    }

    fn request(&self, call: &Call, bearer: Option<&str>) -> Result<Request<Payload>, Failure> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(header::HOST, self.shared.origin.authority())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, call.accept);
        if let Some(media) = call.media {
            request = request.header(header::CONTENT_TYPE, media);
        }
        if let Some(length) = call.length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        if let Some(key) = &call.idempotency {
            request = request.header("idempotency-key", key);
        }
        if let Some(id) = &call.last_event {
            request = request.header("last-event-id", id);
        }
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, authorization(bearer)?);
        }
        if let Some(token) = &call.visitor {
            request = request.header(VISITOR, authorization(token.expose())?);
        }
        request.body((call.payload)()).map_err(|error| Failure::local("cannot make the request", error))
    }
}

/// How the client calls itself.
pub const USER_AGENT: &str = concat!("flare/", env!("CARGO_PKG_VERSION"));

fn authorization(bearer: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {bearer}")).map_err(|_| {
        Failure::usage("the token holds characters that no token has")
            .hint("Copy it again: one line, no spaces.")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

async fn pause(tried: u32) {
    sleep(Duration::from_millis(200 * u64::from(tried * tried))).await;
}

/// How far a request came that got no answer.
enum Broken {
    /// The server has not seen it.
    Unsent(Failure),
    /// It may have been seen.
    Cut(Failure),
    /// Trying again does not help.
    Fatal(Failure),
}

impl Broken {
    fn into_failure(self) -> Failure {
        match self {
            Self::Unsent(failure) | Self::Cut(failure) | Self::Fatal(failure) => failure,
        }
    }
}
