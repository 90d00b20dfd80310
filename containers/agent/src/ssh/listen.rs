//! Remote forwarding (`ssh -R`, RFC 4254 section 7.1): ports and unix sockets of the machine that lead to the client.
//!
//! Loopback unless the client names another address. A forward ends when it is cancelled or its connection ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, Error};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::forward;
use super::inbox::Inbox;
use super::reach::{self, From, To};
use crate::agent::Agent;

/// Forwards of one connection.
const FORWARDS: usize = 64;
/// Connections of all its forwards at a time; more wait in their port's queue.
const CONNECTIONS: usize = 128;
/// For the client to take a connection.
const OPEN: Duration = Duration::from_secs(60);
const BACKLOG: i32 = 128;

/// What a forward is cancelled by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// Address as the client wrote it, and port.
    Tcp(String, u32),
    /// Path as the client wrote it.
    Unix(String),
}

/// The forwards of one connection.
pub(super) struct Forwards {
    agent: Arc<Agent>,
    open: HashMap<Name, Forward>,
    places: Arc<Semaphore>,
    /// Channels that we opened.
    pub(super) ours: Arc<Ours>,
}

/// Ends with its value.
struct Forward {
    tasks: Vec<AbortHandle>,
    socket: Option<PathBuf>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // Made by us, and of no use to anybody now.
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Where the two who wait for a channel of ours meet: the connection's loop, which hears of it and of its data, and who
/// asked for it.
#[derive(Default)]
pub(super) struct Ours(Mutex<HashMap<ChannelId, Arc<Inbox>>>);

impl Ours {
    /// The channel's inbox, for each of the two once.
    pub(super) fn meet(&self, id: ChannelId) -> Arc<Inbox> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&id).unwrap_or_else(|| Arc::clone(waiting.entry(id).or_default()))
    }

    /// Nobody will come any more.
    pub(super) fn forget(&self, id: ChannelId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Forwards {
    /// None yet.
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Self { agent, open: HashMap::new(), places, ours: Arc::default() }
    }

    /// Listens at an address; answers the port, which is the kernel's choice where 0 was asked for.
    pub(super) fn tcp(&mut self, host: &str, port: u32, session: &Handle) -> io::Result<u32> {
        self.place()?;
        let asked = u16::try_from(port).map_err(|_| io::ErrorKind::InvalidInput)?;
        let listeners = bind(host, asked)?;
        let first = listeners.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let port = u32::from(first.local_addr()?.port());
        let name = Name::Tcp(host.to_owned(), port);
        let tasks = listeners.into_iter().map(|listener| {
            let (places, ours, session) = self.shared(session);
            tokio::spawn(accept_tcp(listener, host.to_owned(), port, places, ours, session)).abort_handle()
        });
        let forward = Forward { tasks: tasks.collect(), socket: None };
        self.open.insert(name, forward);
        Ok(port)
    }

    /// Listens at a path.
    pub(super) fn unix(&mut self, path: &str, session: &Handle) -> io::Result<()> {
        self.place()?;
        let at = reach::socket_path(&self.agent, path).ok_or(io::ErrorKind::PermissionDenied)?;
        let listener = bind_unix(&at)?;
        let (places, ours, session) = self.shared(session);
        let task = tokio::spawn(accept_unix(listener, path.to_owned(), places, ours, session));
        let forward = Forward { tasks: vec![task.abort_handle()], socket: Some(at) };
        self.open.insert(Name::Unix(path.to_owned()), forward);
        Ok(())
    }

    /// Ends a forward; connections that go through it stay. `false` where there is none.
    pub(super) fn cancel(&mut self, name: &Name) -> bool {
        self.open.remove(name).is_some()
    }

    fn place(&self) -> io::Result<()> {
        if self.open.len() < FORWARDS { Ok(()) } else { Err(io::ErrorKind::QuotaExceeded.into()) }
    }

    fn shared(&self, session: &Handle) -> (Arc<Semaphore>, Arc<Ours>, Handle) {
        (Arc::clone(&self.places), Arc::clone(&self.ours), session.clone())
    }
}

/// `localhost` is both loopbacks, an empty address or `*` everything, as OpenSSH writes them.
fn bind(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let addresses: Vec<IpAddr> = match host {
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        // One socket for both families, where there are both.
        "" | "*" => match listen((Ipv6Addr::UNSPECIFIED, port).into()) {
            Ok(listener) => return Ok(vec![listener]),
            Err(_) => vec![Ipv4Addr::UNSPECIFIED.into()],
        },
        other => vec![other.parse().map_err(|_| io::ErrorKind::InvalidInput)?],
    };
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut problem = None;
    for address in addresses {
        let port =
            listeners.first().map_or(Ok(port), |first| first.local_addr().map(|first| first.port()))?;
        match listen(SocketAddr::new(address, port)) {
            Ok(listener) => listeners.push(listener),
            Err(error) => problem = Some(error),
        }
    }
    match problem {
        Some(problem) if listeners.is_empty() => Err(problem),
        _ => Ok(listeners),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// For its owner alone, from the first moment: a socket that does not listen yet can be connected to by nobody.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    if let Err(error) = rustix::net::bind(&socket, &address) {
        // What a connection that was cut off has left behind is cleared away; what is in use is not.
        let left = error == rustix::io::Errno::ADDRINUSE
            && std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !left {
            return Err(error.into());
        }
        std::fs::remove_file(path)?;
        rustix::net::bind(&socket, &address)?;
    }
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

async fn accept_tcp(
    listener: TcpListener,
    host: String,
    port: u32,
    places: Arc<Semaphore>,
    ours: Arc<Ours>,
    session: Handle,
) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let _ = stream.set_nodelay(true);
        let (host, ours, session) = (host.clone(), Arc::clone(&ours), session.clone());
        tokio::spawn(async move {
            let opening =
                session.channel_open_forwarded_tcpip(host, port, from.ip().to_string(), from.port().into());
            let (reader, writer) = stream.into_split();
            lead(opening, Box::new(reader), Box::new(writer), &ours).await;
            drop(place);
        });
    }
}

async fn accept_unix(
    listener: UnixListener,
    path: String,
    places: Arc<Semaphore>,
    ours: Arc<Ours>,
    session: Handle,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (path, ours, session) = (path.clone(), Arc::clone(&ours), session.clone());
        tokio::spawn(async move {
            let opening = session.channel_open_forwarded_streamlocal(path);
            let (reader, writer) = stream.into_split();
            lead(opening, Box::new(reader), Box::new(writer), &ours).await;
            drop(place);
        });
    }
}

/// Leads one connection to the client.
async fn lead(opening: impl Future<Output = Result<Channel<Msg>, Error>>, from: From, to: To, ours: &Ours) {
    let Ok(Ok(channel)) = tokio::time::timeout(OPEN, opening).await else { return };
    // Data comes through the connection's loop into the inbox.
    let (_, out) = channel.split();
    let inbox = ours.meet(out.id());
    tokio::select! {
        () = forward::carry(from, to, &inbox, &out) => {}
        // Closed by the client: nothing of it is wanted any more.
        () = inbox.gone() => {}
    }
}
