//! The listening sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use axum::Router;
use burstflare_app_edge::serve::{Bounds, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::exit::{Exit, Failure};

/// How long requests that run may take to end; streams of events never would.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a port may be taken before somebody else has it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sockets of one server.
pub struct Listeners {
    sockets: Vec<TcpListener>,
    port: u16,
}

/// Listens on this machine alone: on 127.0.0.1, and on ::1 where there is IPv6.
///
/// # Errors
/// `Conflict` when the port is taken.
pub async fn loopback(port: u16) -> Result<Listeners, Failure> {
    let first = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let port = first.local_addr().map_err(|error| Failure::local("cannot listen", error))?.port();
    let mut sockets = vec![first];
    match listen(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(second) => sockets.push(second),
        // Somebody else's server would answer those who ask for `localhost` by IPv6.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            return Err(taken(SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
        }
        Err(_) => {}
    }
    Ok(Listeners { sockets, port })
}

/// A machine that was just being started when its server was killed holds that server's sockets until it is the agent,
/// some milliseconds: who begins anew at once must not be refused for it.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    listen(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => taken(address),
        io::ErrorKind::PermissionDenied => Failure::local(format_args!("cannot listen on {address}"), error)
            .hint("Ports below 1024 are root's; choose another one."),
        _ => Failure::local(format_args!("cannot listen on {address}"), error).hint("Check the address."),
    })
}

fn taken(address: SocketAddr) -> Failure {
    Failure::new(Exit::Conflict, format!("{address} is in use: is another `flare dev` running?"))
        .hint("Stop it, or choose another port: `--port 8788`.")
}

impl Listeners {
    /// Listens on one address.
    ///
    /// # Errors
    /// `Conflict` when it is taken.
    pub async fn on(address: SocketAddr) -> Result<Self, Failure> {
        let socket = bind(address).await?;
        let port = socket.local_addr().map_err(|error| Failure::local("cannot listen", error))?.port();
        Ok(Self { sockets: vec![socket], port })
    }

    /// The address of the first socket.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        let address = self.sockets.first().map(TcpListener::local_addr);
        address
            .and_then(Result::ok)
            .ok_or_else(|| Failure::new(Exit::Other, "the listening socket has no address"))
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers requests until `stop` turns true, then lets those under way end.
    pub async fn answer(self, router: Router, stop: watch::Receiver<bool>) {
        let mut servers = JoinSet::new();
        for socket in self.sockets {
            let mut stop = stop.clone();
            let told = async move {
                // A sender that is gone means the same.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            let bounds = Bounds { drain: DRAIN, ..Bounds::default() };
            servers.spawn(serve(socket, router.clone(), told, bounds));
        }
        while let Some(ended) = servers.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::error!(%error, "a listener broke");
            }
        }
    }
}
