//! `/v1/ports`: what listens in this machine, pushed as it changes, and the way to it.

mod frames;
mod headers;
pub(crate) mod listen;
mod owner;
mod pass;
mod proxy;
mod raw;
mod sockets;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::{AGENT_PORT, UNKNOWN_CALL_MESSAGE};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub(crate) use self::pass::Passed;
pub(crate) use self::watch::Ports;
use crate::agent::Agent;
use crate::reply::{self, Refused, Reply};

/// Requests and connections to ports at a time: fewer than the agent's connections, so that its other calls always
/// find a place.
const CONNECTIONS: usize = 160;
/// For a connection over loopback: a process whose queue is full lets it wait.
const CONNECT: Duration = Duration::from_secs(5);

/// Places for requests and connections to ports.
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTIONS)))
    }
}

impl Places {
    fn take(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| Refused {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "busy",
            message: format!("{CONNECTIONS} connections to ports are open already."),
        })
    }
}

/// Answers a call below `/v1/ports`.
pub(crate) async fn call(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Reply, Refused> {
    let unknown = || Refused::unknown_call(UNKNOWN_CALL_MESSAGE);
    let path = request.uri().path().to_owned();
    let rest = path.strip_prefix("/v1/ports").ok_or_else(unknown)?;
    match (request.method(), rest) {
        (&Method::GET, "") => reply::json(&agent.ports.look().await),
        (&Method::GET, "/watch") => Ok(watch(agent)),
        (method, _) => {
            let (port, way) =
                rest.strip_prefix('/').and_then(|rest| rest.split_once('/')).ok_or_else(unknown)?;
            let port = number(port)?;
            match way {
                "tcp" if method == Method::GET => raw::upgrade(agent, port, request).await,
                _ if way.starts_with("http/") => proxy::pass(agent, port, request).await,
                _ => Err(unknown()),
            }
        }
    }
}

/// The one text form of a port that is somebody's.
fn number(text: &str) -> Result<u16, Refused> {
    let port = text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    port.filter(|port| !matches!(*port, 0 | AGENT_PORT))
        .ok_or_else(|| Refused::invalid("A port is a number from 1 to 65535, and not the agent's."))
}

/// Lines for as long as somebody reads them; a slow reader gets the newest state, not every one between.
fn watch(agent: &Arc<Agent>) -> Reply {
    let (lines, flow) = mpsc::channel(1);
    let mut ports = agent.ports.subscribe();
    tokio::spawn(async move {
        loop {
            let line = line(&ports.borrow_and_update());
            if lines.send(line).await.is_err() {
                return;
            }
            tokio::select! {
                changed = ports.changed() => if changed.is_err() { return },
                () = lines.closed() => return,
            }
        }
    });
    reply::flow("application/x-ndjson", flow)
}

fn line(ports: &watch::State) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(&ports.open)?;
    line.push(b'\n');
    Ok(line.into())
}

/// Connects to a port of this machine's processes. A port that was not seen yet is looked for once.
async fn connect(agent: &Agent, port: u16) -> Result<TcpStream, Refused> {
    for fresh in [false, true] {
        if fresh {
            agent.ports.look().await;
        }
        for address in agent.ports.addresses(port) {
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(problem)) => tracing::debug!(%address, %problem, "a port does not answer"),
                Err(_) => return Err(late(format!("Port {port} does not take the connection."))),
            }
        }
    }
    Err(Refused {
        status: StatusCode::BAD_GATEWAY,
        code: "port_closed",
        message: format!("Nothing listens on port {port}."),
    })
}

fn late(message: String) -> Refused {
    Refused { status: StatusCode::GATEWAY_TIMEOUT, code: "port_timeout", message }
}

/// The addresses by which a port is reached, IPv4 first.
type Addresses = Vec<SocketAddr>;
