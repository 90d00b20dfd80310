//! Serving a router on TCP, by hyper on tokio.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_service::Service as _;

use crate::config::ClientAddress;

/// Bounds of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// How long a request's head may take, from the end of the answer before; so also how long a connection may idle.
    pub head: Duration,
    /// How long requests that run get when the server is told to end.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 10_000, head: Duration::from_secs(60), drain: Duration::from_secs(10) }
    }
}

/// The pause after the system refused a connection for want of something (descriptors, memory).
const WANT: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done, then ends idle connections at once and gives the others `bounds.drain`.
/// Upgraded connections are not waited for.
///
/// # Errors
/// When the listener is unusable. Failures of single connections are not errors.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
    bounds: Bounds,
) -> io::Result<()> {
    listener.local_addr()?;
    let (stop, stopping) = watch::channel(());
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, address, place)) = accepted {
            let connection = connection(stream, address, router.clone(), bounds);
            tokio::spawn(drive(connection, stopping.clone(), place));
        }
    }
    drop((listener, stop));
    // Every connection holds a place until it ends.
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(bounds.drain, places.acquire_many(all)).await.is_err() {
        tracing::warn!("requests that did not end in time were cut off");
    }
    Ok(())
}

/// Runs a connection to its end; when the server stops, to the end of the request that runs.
async fn drive<S>(
    connection: UpgradeableConnection<TokioIo<TcpStream>, S>,
    mut stopping: watch::Receiver<()>,
    place: OwnedSemaphorePermit,
) where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // The sender never sends: this is its end.
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
    drop(place);
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(WANT).await;
            None
        }
    }
}

fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    bounds: Bounds,
) -> UpgradeableConnection<
    TokioIo<TcpStream>,
    impl HttpService<Incoming, ResBody = Body, Error = std::convert::Infallible, Future: Send> + Send,
> {
    // Keystrokes must not wait for more of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let client = ClientAddress(address.ip());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(client);
        router.clone().call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
}
