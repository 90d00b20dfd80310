//! `GET /v1/ssh`: a WebSocket whose binary messages carry an SSH connection.

mod channel;
mod forward;
mod inbox;
mod link;
mod listen;
mod modes;
mod reach;
mod resume;
mod session;
mod signals;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::wire::SSH_KEY_HEADER;
use burstflare_ports::wire::resume::SUBPROTOCOL;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, SshId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::resume::Streams;
use self::session::Visit;
use self::stream::WebSocketBytes;
use crate::agent::Agent;
use crate::reply::{Refused, Reply};
use crate::server::Connection;
use crate::websocket;

/// SSH connections at a time.
const CONNECTIONS: usize = 64;
/// Connections that have not said yet which stream they mean.
const GREETINGS: usize = 64;
/// For each channel, in each direction.
pub(crate) const WINDOW: u32 = 4 << 20;
const PACKET: u32 = 32 << 10;
/// Between the handshake's beginning and the login.
const LOGIN: Duration = Duration::from_secs(60);
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The SSH server's identity: stable for a session, because the edge keeps its seed.
pub(crate) struct HostKey {
    public_line: String,
    config: Arc<Config>,
    /// For streams that notice by themselves when their client is gone, and outlive its absence.
    resumable: Arc<Config>,
    places: Arc<Semaphore>,
    greetings: Arc<Semaphore>,
    streams: Arc<Streams>,
}

impl HostKey {
    /// From 32 bytes in base64.
    pub(crate) fn from_seed(seed: &str) -> io::Result<Self> {
        let seed = STANDARD.decode(seed).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        let seed = seed.ok_or_else(|| io::Error::other("the SSH host seed is not 32 bytes in base64"))?;
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        let public_line = key.public_key().to_openssh().map_err(io::Error::other)?;
        let config = |keepalive_interval| Config {
            server_id: SshId::Standard("SSH-2.0-BurstFlare".into()),
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            // One key may log in and it was checked by the edge: there is nothing to guess.
            auth_rejection_time: Duration::from_millis(100),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![key.clone()],
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            channel_buffer_size: 8,
            event_buffer_size: 32,
            max_auth_attempts: 6,
            inactivity_timeout: None,
            keepalive_interval,
            keepalive_max: 3,
            ..Config::default()
        };
        Ok(Self {
            public_line,
            config: Arc::new(config(Some(KEEPALIVE))),
            resumable: Arc::new(config(None)),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            greetings: Arc::new(Semaphore::new(GREETINGS)),
            streams: Arc::default(),
        })
    }

    /// The public half in OpenSSH's format.
    pub(crate) fn public_line(&self) -> &str {
        &self.public_line
    }
}

/// Answers the upgrade and serves SSH on what becomes of the connection.
pub(crate) fn upgrade(agent: &Arc<Agent>, request: &mut Request<Incoming>) -> Result<Reply, Refused> {
    let line =
        request.headers().get(SSH_KEY_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let allowed = PublicKey::from_openssh(line)
        .map_err(|_| Refused::invalid(format!("`{SSH_KEY_HEADER}` has to hold one public key.")))?;
    let resumable = websocket::lists(request.headers(), SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    let places = if resumable { &agent.host_key.greetings } else { &agent.host_key.places };
    let place = Arc::clone(places)
        .try_acquire_owned()
        .map_err(|_| Refused::too_large(format!("{CONNECTIONS} SSH connections are open already.")))?;
    let (mut reply, upgrade) = websocket::accept(request)?;
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        if let Err(problem) = serve(agent, upgrade, allowed, resumable, place).await {
            tracing::debug!(%problem, "an SSH connection broke");
        }
    });
    if resumable {
        let headers = reply.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(reply)
}

async fn serve(
    agent: Arc<Agent>,
    upgrade: OnUpgrade,
    allowed: PublicKey,
    resumable: bool,
    place: OwnedSemaphorePermit,
) -> Result<(), russh::Error> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<Connection>>()
        .map_err(|_| io::Error::other("the connection is of another kind"))?;
    let socket = stream::open(parts.io.into_inner(), &parts.read_buf).await;
    if !resumable {
        let config = Arc::clone(&agent.host_key.config);
        let ended = speak(agent, config, WebSocketBytes::new(socket), allowed).await;
        drop(place);
        return ended;
    }
    let streams = Arc::clone(&agent.host_key.streams);
    let begun = streams.greet(socket, &allowed, &agent.host_key.places).await?;
    drop(place);
    let Some(begun) = begun else { return Ok(()) };
    let config = Arc::clone(&agent.host_key.resumable);
    speak(agent, config, begun.link.clone(), allowed).await
}

/// Speaks SSH until either side ends.
async fn speak<S>(
    agent: Arc<Agent>,
    config: Arc<Config>,
    stream: S,
    allowed: PublicKey,
) -> Result<(), russh::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let visit = Visit::new(agent, allowed);
    let logged_in = visit.logged_in();
    let greeting = tokio::time::timeout(LOGIN, russh::server::run_stream(config, stream, visit));
    let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no login in time");
    let mut session = greeting.await.map_err(|_| timed_out())??;
    tokio::select! {
        end = &mut session => return end,
        () = logged_in.notified() => {}
        () = tokio::time::sleep(LOGIN) => {
            let _ = session.handle().disconnect(russh::Disconnect::ByApplication, "no login in time".into(), String::new()).await;
            return Err(timed_out().into());
        }
    }
    session.await
}
