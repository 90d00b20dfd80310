//! Files by path: see [`burstflare_ports::wire::files`].

mod archive;
mod change;
mod condition;
mod glob;
mod info;
mod list;
mod place;
mod read;
mod refuse;
mod search;
mod write;

use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::UNKNOWN_CALL_MESSAGE;
use http::{Method, Request};
use hyper::body::Incoming;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::activity::Reason;
use crate::agent::Agent;
use crate::body;
use crate::reply::{self, Refused, Reply};

/// Files that are read, written or searched at a time; each holds about a mebibyte.
const PLACES: usize = 16;
/// Searches at a time.
const SEARCHES: usize = 2;
/// How long a call waits for a place.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a call that changes names.
const MESSAGE: usize = 64 << 10;

/// What all file calls share.
pub(crate) struct Files {
    places: Arc<Semaphore>,
    /// Held from the look at a condition to the change that it guards: of two callers with one tag, one wins.
    turn: Arc<Mutex<()>>,
    searches: Arc<Semaphore>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            turn: Arc::default(),
            searches: Arc::new(Semaphore::new(SEARCHES)),
        }
    }
}

impl Files {
    async fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Self::wait(&self.places).await
    }

    async fn search(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Self::wait(&self.searches).await
    }

    async fn wait(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refused> {
        let waiting = tokio::time::timeout(PATIENCE, Arc::clone(places).acquire_owned()).await;
        waiting.ok().and_then(Result::ok).ok_or_else(refuse::busy)
    }
}

/// Whether a call is one of these.
pub(crate) fn is_ours(path: &str) -> bool {
    matches!(path, "/v1/files" | "/v1/search" | "/v1/archive")
}

/// Answers such a call.
pub(crate) async fn call(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Reply, Refused> {
    // Until the answer's head is made; what flows behind it is held by who makes it flow.
    let _active = agent.activity.hold(Reason::Files);
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/files") => read::get(agent, &request).await,
        (&Method::PUT, "/v1/files") => write::put(agent, request).await,
        (&Method::DELETE, "/v1/files") => change::delete(agent, &request).await,
        (&Method::POST, "/v1/files") => change::change(agent, request).await,
        (&Method::GET, "/v1/archive") => archive::send(agent, &request).await,
        (&Method::PUT, "/v1/archive") => archive::receive(agent, request).await,
        (&Method::GET, "/v1/search") => search::search(agent, &request).await,
        _ => Err(Refused::unknown_call(UNKNOWN_CALL_MESSAGE)),
    }
}

/// The parameters of a call; each is taken once, and what nobody took is refused.
struct Query(std::collections::BTreeMap<String, String>);

impl Query {
    fn of<B>(request: &Request<B>) -> Result<Self, Refused> {
        let mut pairs = std::collections::BTreeMap::new();
        for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
            if pairs.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Refused::invalid("A parameter is given more than once."));
            }
        }
        Ok(Self(pairs))
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn path(&mut self) -> Result<String, Refused> {
        self.text("path").ok_or_else(|| Refused::invalid("The parameter `path` is missing."))
    }

    fn flag(&mut self, name: &str) -> Result<bool, Refused> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refused::invalid(format!("`{name}` is true or false."))),
        }
    }

    fn number<N: std::str::FromStr>(&mut self, name: &str) -> Result<Option<N>, Refused> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Refused::invalid(format!("`{name}` is not a number of the allowed size.")))
    }

    fn finish(self) -> Result<(), Refused> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(_) => Err(Refused::invalid("There is a parameter that this call does not know.")),
        }
    }
}

/// What a call with this query would touch.
#[cfg(feature = "fuzzing")]
pub(crate) struct Touched {
    /// Its path in the text form, and what that form is read as.
    pub(crate) texts: (String, Option<String>),
    /// What is opened.
    pub(crate) handles: Vec<std::os::fd::OwnedFd>,
}

/// Reads a query as a call does, and finds what it names. `None` where it is refused.
#[cfg(feature = "fuzzing")]
pub(crate) fn touch(query: &[u8], roots: &[String]) -> Option<Touched> {
    let uri = http::Uri::try_from([b"/v1/files?", query].concat()).ok()?;
    let request = Request::builder().uri(uri).body(()).ok()?;
    let path = Query::of(&request).ok()?.path().ok()?;
    // The roots of this process are elsewhere than those of a machine.
    let path = match path.strip_prefix("/workspace") {
        Some(rest) => format!("{}{rest}", roots.first()?),
        None => path,
    };
    let place = place::Place::find(roots, &path).ok()?;
    let text = place.text();
    let again = place::Place::find(roots, &text).ok().map(|again| again.text());
    let mut handles = Vec::new();
    handles.extend(place.target());
    handles.extend(place.parent().map(|(folder, _)| folder));
    Some(Touched { texts: (text, again), handles })
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(job).await.map_err(|error| Refused::internal(error.to_string()))?
}

async fn message<T: serde::de::DeserializeOwned>(body: Incoming) -> Result<T, Refused> {
    let bytes = body::whole(body, MESSAGE).await?;
    serde_json::from_slice(&bytes).map_err(|error| Refused::invalid(error.to_string()))
}

fn answer(info: &burstflare_ports::wire::files::FileInfo) -> Result<Reply, Refused> {
    let mut reply = reply::json(info)?;
    read::describe(reply.headers_mut(), info)?;
    Ok(reply)
}
