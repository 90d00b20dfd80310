//! Waiting for a state, told by the server's events: nothing polls. A broken stream is opened again; a slow look at
//! the resource makes up for a lost event.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Call, Client, Events};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::text::span;

/// After so long without an event of ours the resource is read again.
const LOOK: Duration = Duration::from_secs(15);
/// The same where the server has no events.
const LOOK_WITHOUT: Duration = Duration::from_secs(2);
/// How long a dead server may stay dead while we wait: it may be starting again.
const DEAD: Duration = Duration::from_secs(30);

/// What one look at a resource says.
#[derive(Debug)]
pub enum Look {
    /// It is as it should be.
    Done,
    /// Not yet; where it is.
    Pending(String),
    /// It never will be.
    Never(Failure),
}

/// What to wait for.
pub struct Wait<'a> {
    /// The server.
    pub client: &'a Client,
    /// Reads the resource.
    pub call: Call,
    /// Its id, as events name it.
    pub subject: &'a str,
    /// Whether its absence is the end that is waited for.
    pub until_gone: bool,
    /// How long to wait at most.
    pub deadline: Duration,
    /// What is waited for, for the message when it takes too long.
    pub what: String,
}

impl Wait<'_> {
    /// Waits until `judge` says done and answers the resource, null when it is gone. `judge` is shown each new
    /// state of the resource.
    ///
    /// # Errors
    /// `Timeout`, what `judge` answers, or when the server is gone for long.
    pub async fn run<F>(self, context: &Context, mut judge: F) -> Result<Value, Failure>
    where
        F: AsyncLook,
    {
        let end = Instant::now() + self.deadline;
        let mut stream = Listening::new();
        let mut dead_since: Option<Instant> = None;
        loop {
            // Listen first, look then: what happens in between is in the stream.
            stream.open(self.client).await;
            match timeout_at(end, self.client.json(&self.call)).await.map_err(|_| self.too_long())? {
                Ok(document) => {
                    dead_since = None;
                    match judge.look(&document).await? {
                        Look::Done => {
                            context.output.end_progress();
                            return Ok(document);
                        }
                        Look::Never(failure) => return Err(failure),
                        Look::Pending(state) => context.output.progress(&state),
                    }
                }
                Err(failure) if failure.exit == Exit::NotFound && self.until_gone => {
                    context.output.end_progress();
                    return Ok(Value::Null);
                }
                Err(failure) if matches!(failure.exit, Exit::Unavailable | Exit::Timeout) => {
                    let since = *dead_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > DEAD {
                        return Err(failure);
                    }
                    context.output.progress("the server does not answer; trying again");
                    stream.close();
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            }
            if Instant::now() >= end {
                return Err(self.too_long());
            }
            let _ = timeout_at(end, stream.something_new(self.subject)).await;
        }
    }

    fn too_long(&self) -> Failure {
        Failure::new(Exit::Timeout, format!("{} took longer than {}", self.what, span(self.deadline)))
            .hint("It goes on without us. See where it is with `flare session list` and `flare build list`, and what is wrong with `flare doctor`.")
    }
}

/// Judges each look; may do something of its own on the way, as showing a log.
pub trait AsyncLook {
    /// What this state of the resource means.
    fn look(&mut self, document: &Value) -> impl Future<Output = Result<Look, Failure>> + Send;
}

/// Judges by the state alone.
pub struct By<F>(pub F);

impl<F: FnMut(&Value) -> Look + Send> AsyncLook for By<F> {
    async fn look(&mut self, document: &Value) -> Result<Look, Failure> {
        Ok((self.0)(document))
    }
}

/// The stream of events, as far as there is one.
struct Listening {
    events: Option<Events>,
    last: Option<String>,
    refused: bool,
}

impl Listening {
    fn new() -> Self {
        Self { events: None, last: None, refused: false }
    }

    async fn open(&mut self, client: &Client) {
        if self.events.is_some() || self.refused {
            return;
        }
        match Events::open(client, self.last.as_deref()).await {
            Ok(events) => self.events = Some(events),
            Err(failure) => self.refused = !matches!(failure.exit, Exit::Unavailable | Exit::Timeout),
        }
    }

    fn close(&mut self) {
        self.events = None;
    }

    /// Returns when there was an event of the subject, the stream broke, or it is time to look anyway.
    async fn something_new(&mut self, subject: &str) {
        let Some(events) = &mut self.events else { return sleep(LOOK_WITHOUT).await };
        let look = Instant::now() + LOOK;
        while let Some(left) = look.checked_duration_since(Instant::now()) {
            match events.next(left).await {
                Ok(Some(event)) => {
                    let ours = event.subject() == subject;
                    if event.id.is_some() {
                        self.last = event.id;
                    }
                    if ours {
                        return;
                    }
                }
                Err(failure) if failure.exit == Exit::Timeout => return,
                Ok(None) | Err(_) => {
                    self.close();
                    return sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}
