//! `flare port-forward`: ports of a session as ports of this machine, by plain TCP through the API.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::ssh::awake;
use crate::client::{Call, Client, Socket, open_socket};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::table::field;

/// Connections at once; more wait in the listening socket's queue.
const CONNECTIONS: usize = 64;
/// Bytes of one message.
const PIECE: usize = 64 << 10;
/// The pause after a connection could not be taken.
const WANT: Duration = Duration::from_millis(100);

/// What to bring where.
#[derive(Debug, Args)]
pub struct PortForward {
    /// The session, by id or name.
    session: String,
    /// LOCAL:REMOTE, or one number for both; a local port of 0 takes a free one.
    #[arg(required = true, value_name = "LOCAL:REMOTE")]
    ports: Vec<Pair>,
    /// Where to listen; with anything but this machine's own address, others can use your access.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
}

/// A local port and the session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    local: u16,
    remote: u16,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port"));
        let (local, remote) = match text.split_once(':') {
            Some((local, remote)) => (number(local)?, number(remote)?),
            None => (number(text)?, number(text)?),
        };
        if remote == 0 {
            Err("the session's port is from 1 to 65535".to_owned())
        } else {
            Ok(Self { local, remote })
        }
    }
}

/// Runs `flare port-forward` until Ctrl-C.
///
/// # Errors
/// When there is no such session, it cannot be woken, or a local port is taken.
pub async fn run(context: &Context, args: PortForward) -> Outcome {
    let client = context.client()?;
    let session = awake(context, &client, &args.session).await?;
    context.output.end_progress();
    let id: Arc<str> = field(&session, "id").into();
    if !args.address.is_loopback() {
        context.output.warn(&format!("everybody who reaches {} can use these ports.", args.address));
    }
    let mut listeners = Vec::new();
    for pair in args.ports {
        let address = SocketAddr::new(args.address, pair.local);
        let listener = TcpListener::bind(address).await.map_err(|error| bind_failure(address, &error))?;
        let local = listener.local_addr().map_err(|error| Failure::local("cannot listen", error))?;
        listeners.push((listener, local, pair.remote));
    }
    let document = json!({
        "session": &*id,
        "forwards": listeners
            .iter()
            .map(|(_, local, remote)| json!({ "local": local, "remote": remote }))
            .collect::<Vec<_>>(),
    });
    context.output.result(&document, || {
        let lines =
            listeners.iter().map(|(_, local, remote)| format!("{local} is port {remote} of the session."));
        format!("{}\nCtrl-C ends it.", lines.collect::<Vec<_>>().join("\n"))
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut forwards = JoinSet::new();
    for (listener, _, remote) in listeners {
        let forward = Forward { client: client.clone(), session: Arc::clone(&id), remote };
        forwards.spawn(forward.accept(listener, Arc::clone(&places)));
    }
    while let Some(ended) = forwards.join_next().await {
        if let Ok(failure) = ended {
            return Err(failure);
        }
    }
    Ok(0)
}

fn bind_failure(address: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(Exit::Conflict, format!("{address} is in use"))
            .hint("Choose another local port: `8081:8080`, or `0:8080` for a free one."),
        _ => Failure::local(format_args!("cannot listen on {address}"), error)
            .hint("Check the address and the port."),
    }
}

/// One port of the session.
#[derive(Clone)]
struct Forward {
    client: Client,
    session: Arc<str>,
    remote: u16,
}

impl Forward {
    /// Takes connections; one that cannot be carried says why and harms no other. Answers what makes going on pointless.
    async fn accept(self, listener: TcpListener, places: Arc<Semaphore>) -> Failure {
        let (gone, mut over) = tokio::sync::mpsc::channel::<Failure>(1);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return Failure::new(Exit::Other, "no more connections are taken");
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(failure) = over.recv() => return failure,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(WANT).await;
                continue;
            };
            let (forward, gone) = (self.clone(), gone.clone());
            tokio::spawn(async move {
                if let Err(failure) = forward.carry(stream).await {
                    tracing::debug!(?failure, "a connection was not carried");
                    // A session that is gone does not come back; everything else may.
                    if failure.exit == Exit::NotFound {
                        let _ = gone.try_send(failure);
                    }
                }
                drop(place);
            });
        }
    }

    /// A ticket and a WebSocket for each connection: a new server is as good as the one before.
    async fn carry(&self, stream: TcpStream) -> Result<(), Failure> {
        let _ = stream.set_nodelay(true);
        let wish = json!({ "purpose": "forward", "port": self.remote });
        let attached =
            self.client.json(&Call::post(&["sessions", &self.session, "attach"]).json(&wish)).await?;
        let path = attached["url_path"].as_str().unwrap_or_default();
        let ticket = attached["ticket"].as_str().unwrap_or_default();
        if !path.starts_with("/api/") || ticket.is_empty() {
            return Err(Failure::new(
                Exit::Other,
                "the server's ticket is not what this version understands",
            ));
        }
        let socket = open_socket(&self.client, &format!("{path}?ticket={ticket}")).await?;
        pump(stream, socket).await.map_err(|error| Failure::local("the connection broke", error))
    }
}

/// Both ways, each as fast as its other side takes it; the end of one way (an empty message) leaves the other open.
async fn pump(stream: TcpStream, socket: Socket) -> io::Result<()> {
    let Socket { mut sink, stream: mut messages } = socket;
    let (mut from, mut to) = stream.into_split();
    let up = async {
        loop {
            let mut buffer = BytesMut::with_capacity(PIECE);
            let length = from.read_buf(&mut buffer).await?;
            sink.send(Message::Binary(buffer.freeze())).await.map_err(io::Error::other)?;
            if length == 0 {
                return Ok::<_, io::Error>(sink);
            }
        }
    };
    let down = async {
        while let Some(message) = messages.next().await {
            match message.map_err(io::Error::other)? {
                Message::Binary(bytes) if bytes.is_empty() => break,
                Message::Binary(bytes) => to.write_all(&bytes).await?,
                Message::Close(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => {}
            }
        }
        to.shutdown().await
    };
    let (mut sink, ()) = tokio::try_join!(up, down)?;
    sink.close().await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_ports() {
        let pair = |text: &str| text.parse::<Pair>().ok().map(|pair| (pair.local, pair.remote));
        assert_eq!(pair("8080:3000"), Some((8080, 3000)));
        assert_eq!(pair("3000"), Some((3000, 3000)));
        assert_eq!(pair("0:3000"), Some((0, 3000)));
        for bad in ["", ":", "3000:", ":3000", "3000:0", "a:1", "1:65536", "1:2:3", "-1:2"] {
            assert_eq!(pair(bad), None, "{bad}");
        }
    }
}
