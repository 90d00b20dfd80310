//! Connections: TCP, TLS where the origin asks for it, and the environment's proxy for what is not on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Origin;
use crate::exit::{Exit, Failure};

/// How long reaching a server may take, name and handshake included.
const CONNECT: Duration = Duration::from_secs(10);

/// A byte stream in both directions.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Opens a connection.
///
/// # Errors
/// `Unavailable` when the server cannot be reached.
pub(crate) async fn connect(origin: &Origin) -> Result<Box<dyn Wire>, Failure> {
    timeout(CONNECT, open(origin)).await.unwrap_or_else(|_| {
        Err(unreachable(origin, &format!("no answer within {} seconds", CONNECT.as_secs())))
    })
}

async fn open(origin: &Origin) -> Result<Box<dyn Wire>, Failure> {
    let tcp = match proxy_for(origin) {
        Some(proxy) => tunnel(&proxy, origin).await?,
        None => dial(origin).await?,
    };
    // Keystrokes are small and must not wait for each other.
    let _ = tcp.set_nodelay(true);
    if !origin.is_secure() {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(origin.host().to_owned())
        .map_err(|_| unreachable(origin, "no certificate can carry that name"))?;
    let stream = TlsConnector::from(tls()?)
        .connect(name, tcp)
        .await
        .map_err(|error| {
            unreachable(origin, &error.to_string())
                .hint("An authority of your own is trusted when its certificate is in the file that SSL_CERT_FILE names.")
        })?;
    Ok(Box::new(stream))
}

async fn dial(origin: &Origin) -> Result<TcpStream, Failure> {
    let mut last = None;
    for address in resolve(origin).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or_else(|| "its name has no address".to_owned(), |error| error.to_string());
    Err(unreachable(origin, &why))
}

async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = origin.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, origin.port())]);
    }
    if origin.is_loopback() {
        // RFC 6761: these names are this machine's, whatever a resolver says; glibc does not know `*.localhost`.
        let ours: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(ours.map(|address| SocketAddr::new(address, origin.port())).to_vec());
    }
    let found = tokio::net::lookup_host((origin.host(), origin.port())).await;
    found.map(Iterator::collect).map_err(|error| unreachable(origin, &error.to_string()))
}

/// The environment's proxy for this origin, as curl reads it: `https_proxy` (either case) unless `no_proxy` names
/// the host. What is on this machine or spoken to without TLS never goes through it.
fn proxy_for(origin: &Origin) -> Option<Origin> {
    if !origin.is_secure() || origin.is_loopback() {
        return None;
    }
    let read = |name: &str| {
        std::env::var(name)
            .ok()
            .or_else(|| std::env::var(name.to_ascii_uppercase()).ok())
            .filter(|v| !v.is_empty())
    };
    let skip = read("no_proxy").unwrap_or_default();
    let skipped = skip.split(',').map(str::trim).filter(|rule| !rule.is_empty()).any(|rule| {
        let rule = rule.trim_start_matches('.');
        rule == "*" || origin.host() == rule || origin.host().ends_with(&format!(".{rule}"))
    });
    let text = read("https_proxy").or_else(|| read("all_proxy")).filter(|_| !skipped)?;
    let text = if text.contains("://") { text } else { format!("http://{text}") };
    Origin::parse(&text).ok().filter(|proxy| !proxy.is_secure())
}

/// HTTP CONNECT (RFC 9110 section 9.3.6).
async fn tunnel(proxy: &Origin, origin: &Origin) -> Result<TcpStream, Failure> {
    let failed = |why: &str| unreachable(origin, &format!("the proxy {proxy}: {why}"));
    let mut stream = dial(proxy).await?;
    let target = format!("{}:{}", origin.authority().split(':').next().unwrap_or_default(), origin.port());
    let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(|error| failed(&error.to_string()))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows the head belongs to the tunnel.
        let byte = stream.read_u8().await.map_err(|error| failed(&error.to_string()))?;
        head.push(byte);
        if head.len() > 16_384 {
            return Err(failed("its answer does not end"));
        }
    }
    let status = String::from_utf8_lossy(&head);
    match status.split_ascii_whitespace().nth(1) {
        Some(code) if code.starts_with('2') => Ok(stream),
        _ => Err(failed(status.lines().next().unwrap_or_default())),
    }
}

/// One configuration for the whole process: reading the roots takes milliseconds, so only who needs them does.
fn tls() -> Result<Arc<rustls::ClientConfig>, Failure> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Failure::new(
            Exit::Unavailable,
            "this machine has no certificates of authorities to trust",
        )
        .hint("Install the package `ca-certificates`, or name a file in SSL_CERT_FILE."));
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::local("cannot set up TLS", error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// The failure of everything that keeps a server out of reach.
#[must_use]
pub fn unreachable(origin: &Origin, why: &str) -> Failure {
    let failure = Failure::new(Exit::Unavailable, format!("cannot reach the server at {origin}: {why}"));
    if origin.is_loopback() {
        failure.hint("Start it with `flare dev`, or name another one with `--url`.")
    } else {
        failure.hint("Check the URL and the network, then try again.")
    }
}
