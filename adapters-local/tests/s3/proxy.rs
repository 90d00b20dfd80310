//! An HTTP proxy between client and server that does what networks and busy services do.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Failure = std::io::Error;
type Passing = UnsyncBoxBody<Bytes, Failure>;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is passed on, and so is its answer.
    None,
    /// The service refuses with this status and code; it never sees the request.
    Refused(u16, &'static str),
    /// The connection is cut before the service sees the request.
    Cut,
    /// The service sees this many bytes of the request's body and then the end of the connection.
    CutAfter(usize),
    /// The service does the work, and the answer never arrives.
    LostAnswer,
    /// The service does the work, and the answer's body says 200 and then that it failed.
    FailedWith200,
    /// Only this many bytes of the answer's body arrive.
    CutAnswer(usize),
    /// After this many bytes of the answer's body nothing comes any more.
    SilentAfter(usize),
    /// A bit of the answer's body arrives as another.
    Flipped,
    /// Request and answer come late.
    Slow(Duration),
    /// The request never gets an answer.
    Forever,
}

/// What kind of call a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Put,
    Get,
    Head,
    Delete,
    List,
    Begin,
    Part,
    Complete,
    Abort,
    Uploads,
}

impl Call {
    fn of(request: &http::request::Parts) -> Self {
        let query = request.uri.query().unwrap_or_default();
        let upload = query.contains("uploadId=");
        match request.method.as_str() {
            "PUT" if upload => Self::Part,
            "PUT" => Self::Put,
            "POST" if upload => Self::Complete,
            "POST" => Self::Begin,
            "DELETE" if upload => Self::Abort,
            "DELETE" => Self::Delete,
            "HEAD" => Self::Head,
            _ if query.contains("list-type=2") => Self::List,
            _ if query.contains("uploads") => Self::Uploads,
            _ => Self::Get,
        }
    }
}

/// Decides about a request: what it is, and how many of exactly the same came before.
type Plan = Box<dyn Fn(Call, usize) -> Fault + Send>;

struct Shared {
    server: u16,
    plan: Mutex<Plan>,
    seen: Mutex<HashMap<String, usize>>,
    calls: Mutex<HashMap<Call, usize>>,
    faults: AtomicUsize,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            server,
            plan: Mutex::new(Box::new(|_, _| Fault::None)),
            seen: Mutex::default(),
            calls: Mutex::default(),
            faults: AtomicUsize::new(0),
        });
        let all = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&all);
                tokio::spawn(async move {
                    let answer = hyper::service::service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move { shared.pass(request).await }
                    });
                    // An error is a fault of ours, or the client's goodbye.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Self { port, shared, listening }
    }

    /// From now on requests are treated like this.
    pub(crate) fn plan(&self, plan: impl Fn(Call, usize) -> Fault + Send + 'static) {
        self.shared.seen.lock().expect("no panic").clear();
        self.shared.calls.lock().expect("no panic").clear();
        *self.shared.plan.lock().expect("no panic") = Box::new(plan);
    }

    /// Requests of this kind since the plan was made.
    pub(crate) fn calls(&self, call: Call) -> usize {
        self.shared.calls.lock().expect("no panic").get(&call).copied().unwrap_or_default()
    }

    /// Faults so far.
    pub(crate) fn faults(&self) -> usize {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Shared {
    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Passing>, Failure> {
        let (head, body) = request.into_parts();
        let call = Call::of(&head);
        let same = format!("{} {} {:?}", head.method, head.uri, head.headers.get("range"));
        let before = {
            let mut seen = self.seen.lock().expect("no panic");
            let count = seen.entry(same).or_default();
            *count += 1;
            *count - 1
        };
        *self.calls.lock().expect("no panic").entry(call).or_default() += 1;
        let fault = (self.plan.lock().expect("no panic"))(call, before);
        if fault != Fault::None {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        match fault {
            Fault::Refused(status, code) => {
                // Read to its end, as a service does that wants to be heard.
                let _ = body.collect().await;
                return Ok(refusal(status, code));
            }
            Fault::Cut => return Err(Failure::other("cut")),
            Fault::Forever => std::future::pending().await,
            Fault::Slow(pause) => tokio::time::sleep(pause).await,
            _ => {}
        }
        let body: Passing = match fault {
            Fault::CutAfter(length) => cut(body, length, false),
            _ => body.map_err(Failure::other).boxed_unsync(),
        };
        let (mut head, body) = self.ask(head, body).await?.into_parts();
        match fault {
            Fault::LostAnswer => {
                let _ = body.collect().await;
                Err(Failure::other("the answer is lost"))
            }
            Fault::FailedWith200 => {
                let _ = body.collect().await;
                Ok(refusal(200, "InternalError"))
            }
            Fault::CutAnswer(length) => Ok(Response::from_parts(head, cut(body, length, false))),
            Fault::SilentAfter(length) => Ok(Response::from_parts(head, cut(body, length, true))),
            Fault::Flipped => {
                let mut whole = body.collect().await.map_err(Failure::other)?.to_bytes().to_vec();
                if let Some(byte) = whole.get_mut(0) {
                    *byte ^= 1;
                }
                head.headers.remove("transfer-encoding");
                Ok(Response::from_parts(head, Full::from(whole).map_err(never).boxed_unsync()))
            }
            _ => Ok(Response::from_parts(head, body.map_err(Failure::other).boxed_unsync())),
        }
    }

    /// On a connection of its own, which ends with the answer.
    async fn ask(&self, head: http::request::Parts, body: Passing) -> Result<Response<Incoming>, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", self.server)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::other)?;
        tokio::spawn(connection);
        let mut request = Request::from_parts(head, body);
        // As an ordinary server wants it, whatever kind of proxy the client takes us for.
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(Failure::other)?;
        *request.uri_mut() = path;
        sender.send_request(request).await.map_err(Failure::other)
    }
}

fn never(impossible: Infallible) -> Failure {
    match impossible {}
}

fn refusal(status: u16, code: &str) -> Response<Passing> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>as planned</Message></Error>"
    );
    let body = if status == 304 {
        Empty::new().map_err(never).boxed_unsync()
    } else {
        Full::from(text).map_err(never).boxed_unsync()
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .body(body)
        .expect("an answer")
}

/// The first bytes of a body, and then an error or nothing for ever.
fn cut(body: Incoming, length: usize, silent: bool) -> Passing {
    let first = BodyStream::new(body).scan(length, |left, frame| {
        let frame = frame.map_err(Failure::other).map(|frame| {
            let mut bytes = frame.into_data().unwrap_or_default();
            bytes.truncate(*left);
            *left -= bytes.len();
            bytes
        });
        let over = matches!(&frame, Ok(bytes) if bytes.is_empty());
        std::future::ready((!over).then(|| frame.map(Frame::data)))
    });
    let end =
        if silent { stream::pending().boxed() } else { stream::iter([Err(Failure::other("cut"))]).boxed() };
    StreamBody::new(first.chain(end)).boxed_unsync()
}
