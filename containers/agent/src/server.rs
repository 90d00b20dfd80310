//! The listener, its connections, and which call goes where.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use burstflare_ports::wire::UNKNOWN_CALL_MESSAGE;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::AddressFamily;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::reply::{self, Refused, Reply, settle};
use crate::{
    activity, bundle, exec, files, hooks, metrics, port, secrets, shutdown, snapshot, ssh, terminal, tree,
};

/// Connections at a time; more wait in the socket's queue.
const CONNECTIONS: usize = 256;
/// For a request's head, and for the next request on a kept connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(75);
/// An application's request may have as many as the edge takes, and a few of ours.
const HEADERS: usize = 160;
const BUFFER: usize = 64 << 10;

/// The socket that our starter made.
pub(crate) enum Listener {
    /// Of a sandbox.
    Unix(UnixListener),
    /// Where a runtime offers no unix socket.
    Tcp(TcpListener),
}

impl Listener {
    /// Takes over an inherited, listening socket.
    pub(crate) fn take(socket: OwnedFd) -> io::Result<Self> {
        let family = rustix::net::getsockname(&socket)?.address_family();
        if family == AddressFamily::UNIX {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener).map(Self::Unix)
        } else {
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Self::Tcp)
        }
    }

    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }
        }
    }
}

/// One connection, of either kind.
pub(crate) enum Connection {
    /// Of a sandbox.
    Unix(UnixStream),
    /// Elsewhere.
    Tcp(TcpStream),
}

/// Answers calls until the agent ends.
pub(crate) async fn run(agent: Arc<Agent>, listener: Listener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(problem) => {
                // Out of descriptors, or the caller is gone already.
                tracing::warn!(%problem, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let agent = Arc::clone(&agent);
        tokio::spawn(async move {
            serve(&agent, connection).await;
            drop(place);
            if agent.ended.load(Ordering::Relaxed) {
                agent.finished.notify_one();
            }
        });
    }
}

async fn serve(agent: &Arc<Agent>, connection: Connection) {
    let service = service_fn(|request| async { settle(call(agent, request).await) });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER);
    if let Err(problem) = http.serve_connection(TokioIo::new(connection), service).with_upgrades().await {
        tracing::debug!(%problem, "a connection broke");
    }
}

async fn call(agent: &Arc<Agent>, mut request: Request<Incoming>) -> Result<Reply, Refused> {
    agent.key.admit(request.headers(), agent.epoch)?;
    if files::is_ours(request.uri().path()) {
        return files::call(agent, request).await;
    }
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/ready") => reply::json(&agent.ready()),
        (&Method::GET, "/v1/activity") => activity::tell(agent).await,
        (&Method::GET, "/v1/metrics") => metrics::tell(agent).await,
        (&Method::GET, "/v1/ssh") => ssh::upgrade(agent, &mut request),
        (&Method::GET, "/v1/tree") => tree::send(agent).await,
        (&Method::PUT, "/v1/tree") => tree::receive(agent, request.into_body()).await,
        (&Method::POST, "/v1/snapshots/scan") => snapshot::scan(agent, request).await,
        (&Method::POST, "/v1/snapshots/packs") => snapshot::packs(agent, request).await,
        (&Method::PUT, "/v1/snapshots") => snapshot::restore(agent, request.into_body()).await,
        (&Method::PUT, "/v1/bundle") => bundle::receive(agent, request.into_body()).await,
        (&Method::GET, "/v1/exec") => exec::upgrade(agent, &mut request),
        (&Method::POST, "/v1/exec") => exec::exec(agent, request.into_body()).await,
        (&Method::GET, "/v1/terminals") => terminal::list(agent),
        (&Method::POST, "/v1/terminals") => terminal::create(agent, request.into_body()).await,
        (method, path) if path.starts_with("/v1/terminals/") => {
            let rest = path.strip_prefix("/v1/terminals/").unwrap_or_default();
            match (method, rest.split_once('/')) {
                (&Method::GET, None) => terminal::show(agent, rest),
                (&Method::DELETE, None) => terminal::close(agent, rest).await,
                (&Method::GET, Some((id, "view"))) => terminal::view(agent, id, &mut request),
                _ => Err(Refused::unknown_call(UNKNOWN_CALL_MESSAGE)),
            }
        }
        (&Method::PUT, "/v1/secrets") => secrets::receive(agent, request.into_body()).await,
        (&Method::POST, "/v1/hooks/start") => hooks::start(agent),
        (&Method::POST, "/v1/quiesce") => shutdown::quiesce(agent, request.into_body()).await,
        (&Method::POST, "/v1/shutdown") => shutdown::shutdown(agent, request.into_body()).await,
        (_, ports) if ports.starts_with("/v1/ports") => port::call(agent, request).await,
        _ => Err(Refused::unknown_call(UNKNOWN_CALL_MESSAGE)),
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Unix($stream) => $call,
            Self::Tcp($stream) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
