//! The proxy: HTTP `CONNECT`, and requests in absolute form (RFC 9110 section 7.1, RFC 9112 section 3.2.2).
//!
//! A name is resolved here, every address is checked, and exactly a checked one is connected to, so no answer of
//! the name server can lead elsewhere afterwards. Behind a proxy of the server's own, that one does the connecting:
//! it is asked for the name, once nothing here speaks against it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::policy;
use crate::sandbox::config::{EgressConfig, UpstreamProxy};

/// Connections of one machine at a time; further ones wait.
const CONNECTIONS: usize = 128;
/// Connections of all machines together: each may hold two descriptors of the server's.
const ALL_CONNECTIONS: usize = 2048;
/// Longest head of a request or reply, in bytes.
const HEAD: usize = 64 * 1024;
/// For a request's head to come.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// For a name to be resolved, and for one address to answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// For a reply's head: servers may think for long.
const REPLY_DEADLINE: Duration = Duration::from_secs(300);

type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// What all machines' proxies share.
#[derive(Debug)]
pub(crate) struct Egress {
    config: EgressConfig,
    places: Arc<Semaphore>,
}

impl Egress {
    /// A proxy of a configuration.
    pub(crate) fn new(config: EgressConfig) -> Self {
        Self { config, places: Arc::new(Semaphore::new(ALL_CONNECTIONS)) }
    }
}

/// Serves one machine until it is dropped.
pub(crate) async fn serve(listener: UnixListener, egress: Arc<Egress>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok(shared) = Arc::clone(&egress.places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: give others the time to close some.
                tracing::warn!(%error, "egress proxy cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let egress = Arc::clone(&egress);
        tokio::spawn(async move {
            serve_one(stream, &egress, Place { _own: place, _shared: shared }).await;
        });
    }
}

/// A connection's place among its machine's and among all; free again when it is dropped.
struct Place {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

async fn serve_one(stream: UnixStream, egress: &Arc<Egress>, place: Place) {
    // A tunnel goes on after its request is answered, and keeps the place until it ends.
    let place = Arc::new(place);
    let service = service_fn(|request| {
        let (egress, place) = (Arc::clone(egress), Arc::clone(&place));
        async move {
            let answer = answer(&egress, request, place).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(Refused::into_answer))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "egress connection ended");
    }
}

/// Why a request goes nowhere.
#[derive(Debug)]
pub(crate) struct Refused(StatusCode, String);

impl Refused {
    fn into_answer(self) -> Answer {
        let mut answer =
            Response::new(Either::Left(Full::new(Bytes::from(format!("flare egress: {}\n", self.1)))));
        *answer.status_mut() = self.0;
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer
    }

    fn bad(text: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, text.to_owned())
    }
}

async fn answer(egress: &Egress, request: Request<Incoming>, place: Arc<Place>) -> Result<Answer, Refused> {
    let wanted = Wanted::of(request.method(), request.uri())?;
    if let Wanted::Tunnel(target) = &wanted {
        let mut server = egress.tunnel(target).await?;
        tokio::spawn(async move {
            if let Ok(client) = hyper::upgrade::on(request).await {
                // Either side's end is passed on; errors end the tunnel.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
            }
            drop(place);
        });
        return Ok(Response::new(Either::Left(Full::new(Bytes::new()))));
    }
    let Wanted::Forward(target) = wanted else { return Err(Refused::bad(UNUSUAL)) };
    egress.forward(&target, request).await
}

/// What a name or an IPv4 address is written with: what other proxies and resolvers make of anything else nobody knows.
const fn is_of_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

const UNUSUAL: &str = "ask for http://HOST/…, or CONNECT HOST:PORT";

/// What a request asks for.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A connection.
    Tunnel(Target),
    /// To be carried to its server.
    Forward(Target),
}

impl Wanted {
    pub(crate) fn of(method: &Method, uri: &Uri) -> Result<Self, Refused> {
        if method == Method::CONNECT {
            return Target::of(uri.authority(), None).map(Self::Tunnel);
        }
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(Refused::bad(UNUSUAL));
        }
        Target::of(uri.authority(), Some(80)).map(Self::Forward)
    }
}

/// Where a request wants to go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    pub(crate) fn of(authority: Option<&Authority>, default_port: Option<u16>) -> Result<Self, Refused> {
        let authority = authority.ok_or_else(|| Refused::bad("no host to connect to"))?;
        if authority.as_str().contains('@') {
            return Err(Refused::bad("no user names in addresses, please"));
        }
        let port = authority.port_u16().or(default_port).filter(|port| *port != 0);
        let port = port.ok_or_else(|| Refused::bad("no port to connect to"))?;
        let host = match authority.host().strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok()),
            None => Some(authority.host()).filter(|name| name.bytes().all(is_of_names)),
        };
        let host = host.filter(|host| (1..=253).contains(&host.len()));
        let host = host.ok_or_else(|| Refused::bad("no host to connect to"))?.to_owned();
        Ok(Self { host, port })
    }

    fn forbidden(&self) -> Refused {
        let text = format!(
            "{} is the host's or a private address; the server's --egress-allow can open it",
            self.host
        );
        Refused(StatusCode::FORBIDDEN, text)
    }

    pub(crate) fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Egress {
    /// The addresses that may be connected to. `None` where the name does not resolve.
    async fn resolve(&self, target: &Target) -> Result<Option<Vec<SocketAddr>>, Refused> {
        let found: Vec<SocketAddr> = match target.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, target.port)],
            Err(_) => {
                let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
                match timeout(CONNECT_DEADLINE, lookup).await {
                    Ok(Ok(found)) => found.collect(),
                    Ok(Err(_)) | Err(_) => return Ok(None),
                }
            }
        };
        let allowed: Vec<SocketAddr> =
            found.into_iter().filter(|found| policy::allowed(found.ip(), &self.config.allow)).collect();
        if allowed.is_empty() { Err(target.forbidden()) } else { Ok(Some(allowed)) }
    }

    /// The server's own proxy, where this target goes through it.
    fn upstream(&self, target: &Target) -> Option<&UpstreamProxy> {
        let name = target.host.trim_end_matches('.').to_ascii_lowercase();
        let passes = |pattern: &String| {
            let pattern = pattern.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
            pattern == "*"
                || name == pattern
                || name.strip_suffix(&pattern).is_some_and(|rest| rest.ends_with('.'))
                || pattern
                    .parse::<policy::Cidr>()
                    .is_ok_and(|block| name.parse().is_ok_and(|address| block.contains(address)))
        };
        self.config.upstream.as_ref().filter(|upstream| !upstream.bypass.iter().any(passes))
    }

    /// Checks a target that the upstream proxy will connect to: by its name or address, and by what this host makes of it.
    async fn check_for_upstream(&self, target: &Target) -> Result<(), Refused> {
        if policy::local_name(&target.host) {
            return Err(target.forbidden());
        }
        // A name that only the upstream proxy can resolve is its business.
        self.resolve(target).await.map(drop)
    }

    async fn connect(&self, target: &Target) -> Result<TcpStream, Refused> {
        let addresses = self
            .resolve(target)
            .await?
            .ok_or_else(|| Refused(StatusCode::BAD_GATEWAY, format!("{} cannot be resolved", target.host)))?;
        connect_any(&addresses, &target.host).await
    }

    async fn connect_upstream(&self, upstream: &UpstreamProxy) -> Result<TcpStream, Refused> {
        let lookup = tokio::net::lookup_host(upstream.address.as_str());
        let found: Vec<SocketAddr> = match timeout(CONNECT_DEADLINE, lookup).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        connect_any(&found, "the server's own proxy").await
    }

    /// A connection for `CONNECT`.
    async fn tunnel(&self, target: &Target) -> Result<TcpStream, Refused> {
        let Some(upstream) = self.upstream(target) else { return self.connect(target).await };
        self.check_for_upstream(target).await?;
        let mut stream = self.connect_upstream(upstream).await?;
        let failed =
            |_| Refused(StatusCode::BAD_GATEWAY, "the server's own proxy does not answer".to_owned());
        let authority = target.authority();
        let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(authorization) = &upstream.authorization {
            head.push_str("Proxy-Authorization: ");
            head.push_str(authorization.expose());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.map_err(failed)?;
        let status = timeout(CONNECT_DEADLINE * 3, connect_status(&mut stream)).await;
        match status {
            Ok(Some(200..=299)) => Ok(stream),
            Ok(Some(status)) => {
                let text = format!("the server's own proxy answered {status} for {}", target.host);
                Err(Refused(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), text))
            }
            Ok(None) | Err(_) => {
                Err(Refused(StatusCode::BAD_GATEWAY, "the server's own proxy does not answer".to_owned()))
            }
        }
    }

    /// Carries a request in absolute form to its server.
    async fn forward(&self, target: &Target, request: Request<Incoming>) -> Result<Answer, Refused> {
        let (mut head, body) = request.into_parts();
        remove_hop_by_hop(&mut head.headers);
        let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
        let host = HeaderValue::try_from(&authority).map_err(|_| Refused::bad("no host to connect to"))?;
        head.headers.insert(header::HOST, host);
        head.version = http::Version::HTTP_11;
        let stream = match self.upstream(target) {
            Some(upstream) => {
                self.check_for_upstream(target).await?;
                if let Some(authorization) = &upstream.authorization {
                    let mut value = HeaderValue::try_from(authorization.expose()).map_err(|_| {
                        Refused(
                            StatusCode::BAD_GATEWAY,
                            "the server's own proxy is set up wrongly".to_owned(),
                        )
                    })?;
                    value.set_sensitive(true);
                    head.headers.insert(header::PROXY_AUTHORIZATION, value);
                }
                self.connect_upstream(upstream).await?
            }
            None => {
                let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
                head.uri = path.parse::<Uri>().map_err(|_| Refused::bad("no path to ask for"))?;
                self.connect(target).await?
            }
        };
        let failed = |error: hyper::Error| {
            Refused(StatusCode::BAD_GATEWAY, format!("{} does not answer: {error}", target.host))
        };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake::<_, Incoming>(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        tokio::spawn(async move {
            // What went wrong shows in the reply.
            let _ = connection.await;
        });
        let reply = timeout(REPLY_DEADLINE, sender.send_request(Request::from_parts(head, body)));
        let reply = reply
            .await
            .map_err(|_| {
                Refused(StatusCode::GATEWAY_TIMEOUT, format!("{} does not answer in time", target.host))
            })?
            .map_err(failed)?;
        let (mut head, body) = reply.into_parts();
        remove_hop_by_hop(&mut head.headers);
        Ok(Response::from_parts(head, Either::Right(body)))
    }
}

async fn connect_any(addresses: &[SocketAddr], name: &str) -> Result<TcpStream, Refused> {
    let mut last = format!("{name} has no address");
    for address in addresses {
        match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small messages of interactive protocols pass at once.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = format!("{name} cannot be reached: {error}"),
            Err(_) => last = format!("{name} does not answer in time"),
        }
    }
    Err(Refused(StatusCode::BAD_GATEWAY, last))
}

/// Reads the head of a reply to `CONNECT`, byte by byte: what follows it belongs to the tunnel. Answers its status.
async fn connect_status(stream: &mut TcpStream) -> Option<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= 8 * 1024 {
            return None;
        }
        head.push(stream.read_u8().await.ok()?);
    }
    status_of(&head)
}

/// The status of a reply's head.
pub(crate) fn status_of(head: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(head).ok()?;
    text.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// Removes what concerns one connection only (RFC 9110 section 7.6.1).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in
        ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
    {
        headers.remove(name);
    }
    headers.remove(header::PROXY_AUTHORIZATION);
    headers.remove(header::PROXY_AUTHENTICATE);
}
