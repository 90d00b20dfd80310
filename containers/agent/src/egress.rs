//! The way out: connections to a loopback port inside are carried to the server's unix socket, one to one.

use std::io;
use std::net::TcpListener as Listener;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::Egress;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;

/// Connections at a time; more wait in the port's queue.
const CONNECTIONS: usize = 256;
const BUFFER: usize = 16 << 10;

/// Listens on the port inside. A machine without a way out still works, so failing is not fatal.
pub(crate) fn listen(egress: &Egress) -> Option<Listener> {
    bind(&egress.listen)
        .inspect_err(|problem| {
            tracing::error!(listen = egress.listen, %problem, "no way out: the port cannot be opened");
        })
        .ok()
}

/// Carries connections for the life of the agent.
pub(crate) async fn run(listener: Listener, egress: Egress) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(problem) => {
            tracing::error!(listen = egress.listen, %problem, "no way out: the port cannot be served");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((inside, _)) => {
                let socket = egress.socket.clone();
                tokio::spawn(async move {
                    if let Err(problem) = carry(inside, &socket).await {
                        tracing::debug!(%problem, "a connection out broke");
                    }
                    drop(place);
                });
            }
            Err(problem) => {
                tracing::warn!(%problem, "a connection out could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Loopback only: the port is the session's own.
fn bind(listen: &str) -> io::Result<Listener> {
    let address: std::net::SocketAddr = listen.parse().map_err(io::Error::other)?;
    if !address.ip().is_loopback() {
        return Err(io::Error::other("not a loopback address"));
    }
    let listener = Listener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Until both sides have ended; the end of one direction is passed on while the other one goes on.
async fn carry(mut inside: TcpStream, socket: &str) -> io::Result<()> {
    inside.set_nodelay(true)?;
    // Connected anew each time: a new server puts a new socket at the same place.
    let mut outside = UnixStream::connect(socket).await?;
    copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await?;
    Ok(())
}
