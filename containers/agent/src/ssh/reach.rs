//! Where a forwarded connection goes: to the machine's own loopback, to a unix socket of the user, or out, the way
//! every process of the machine goes out.
//!
//! A client asks with `-L`, `-W`, or for each connection of `-D`. Names of the machine itself mean its loopback. What
//! lies outside is reached through the machine's egress proxy, by CONNECT, so that the proxy's rules hold and it is the
//! proxy that resolves the name; on a machine without one (a network of its own kind) the agent connects itself, from
//! the same network namespace and with the same rights as the user's processes. Forwarding is no way around either.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use burstflare_ports::wire::Egress;
use russh::ChannelOpenFailure;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::agent::Agent;

/// For a connection to come about.
const CONNECT: Duration = Duration::from_secs(20);
/// The proxy's answer.
const HEAD: usize = 8 << 10;

/// The receiving half of a connection.
pub(super) type From = Box<dyn AsyncRead + Send + Unpin>;
/// The sending half of a connection.
pub(super) type To = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to a host as this machine sees it.
pub(super) async fn tcp(agent: &Agent, host: &str, port: u16) -> Result<(From, To), ChannelOpenFailure> {
    let reaching = async {
        match (local(host), &agent.egress) {
            (Some(addresses), _) => loopback(&addresses, port).await,
            (None, Some(egress)) => through(egress, host, port).await,
            (None, None) => direct(host, port).await,
        }
    };
    tokio::time::timeout(CONNECT, reaching).await.unwrap_or(Err(ChannelOpenFailure::ConnectFailed))
}

/// Connects to a unix socket of the user.
pub(super) async fn unix(agent: &Agent, path: &str) -> Result<(From, To), ChannelOpenFailure> {
    let path = socket_path(agent, path).ok_or(ChannelOpenFailure::AdministrativelyProhibited)?;
    let connecting = tokio::time::timeout(CONNECT, UnixStream::connect(path));
    let Ok(Ok(stream)) = connecting.await else { return Err(ChannelOpenFailure::ConnectFailed) };
    let (from, to) = stream.into_split();
    Ok((Box::new(from), Box::new(to)))
}

/// A path at which a user's socket may lie: below the roots, /tmp, /run/user or /dev/shm. It is there for clearness, not
/// as a wall: the agent has the rights of the user's own processes.
pub(super) fn socket_path(agent: &Agent, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if path.as_os_str().is_empty() || path.as_os_str().len() > 4096 {
        return None;
    }
    // Relative ones begin where shells do.
    let path = Path::new(agent.surroundings.cwd()).join(path);
    let folder = std::fs::canonicalize(path.parent()?).ok()?;
    let below = |root: &str| std::fs::canonicalize(root).is_ok_and(|root| folder.starts_with(root));
    let fine = agent.roots.iter().map(String::as_str).chain(["/tmp", "/run/user", "/dev/shm"]).any(below);
    fine.then(|| Some(folder.join(path.file_name()?)))?
}

/// The machine's own addresses behind a name; `None` for what lies elsewhere.
fn local(host: &str) -> Option<Vec<IpAddr>> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if matches!(host.as_str(), "localhost" | "ip6-localhost" | "ip6-loopback") || host.ends_with(".localhost")
    {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    match host.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Some(vec![Ipv4Addr::LOCALHOST.into()]),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(vec![Ipv6Addr::LOCALHOST.into()]),
        ip if ip.is_loopback() => Some(vec![ip]),
        _ => None,
    }
}

async fn loopback(addresses: &[IpAddr], port: u16) -> Result<(From, To), ChannelOpenFailure> {
    for address in addresses {
        if let Ok(stream) = TcpStream::connect((*address, port)).await {
            return Ok(halves(stream));
        }
    }
    Err(ChannelOpenFailure::ConnectFailed)
}

async fn direct(host: &str, port: u16) -> Result<(From, To), ChannelOpenFailure> {
    if !is_name(host) {
        return Err(ChannelOpenFailure::AdministrativelyProhibited);
    }
    let connected = TcpStream::connect((host, port)).await;
    connected.map(halves).map_err(|_| ChannelOpenFailure::ConnectFailed)
}

/// HTTP CONNECT (RFC 9110 section 9.3.6) at the server's side of the machine's way out.
async fn through(egress: &Egress, host: &str, port: u16) -> Result<(From, To), ChannelOpenFailure> {
    if !is_name(host) {
        return Err(ChannelOpenFailure::AdministrativelyProhibited);
    }
    let asked = async {
        let mut stream = UnixStream::connect(&egress.socket).await?;
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head belongs to the connection.
            head.push(stream.read_u8().await?);
            if head.len() > HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok::<_, io::Error>((stream, head))
    };
    let (stream, head) = asked.await.map_err(|_| ChannelOpenFailure::ConnectFailed)?;
    // `HTTP/1.1 200 …`
    match head.get(9..12) {
        Some([b'2', ..]) => {
            let (from, to) = stream.into_split();
            Ok((Box::new(from), Box::new(to)))
        }
        Some(b"403") => Err(ChannelOpenFailure::AdministrativelyProhibited),
        _ => Err(ChannelOpenFailure::ConnectFailed),
    }
}

fn halves(stream: TcpStream) -> (From, To) {
    let _ = stream.set_nodelay(true);
    let (from, to) = stream.into_split();
    (Box::new(from), Box::new(to))
}

/// Whether it can be a host's name or address: nothing that would end a line of a request.
fn is_name(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    !host.is_empty() && host.len() <= 253 && host.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_names_are_its_loopback() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
        ] {
            let addresses = local(host).unwrap_or_default();
            assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{host}");
        }
        for host in ["example.com", "10.0.0.1", "192.0.2.1", "::ffff:10.0.0.1", "localhost.example.com", ""] {
            assert_eq!(local(host), None, "{host}");
        }
    }

    #[test]
    fn a_host_cannot_become_a_request() {
        assert!(is_name("example.com") && is_name("2001:db8::1") && is_name("xn--bcher-kva.example"));
        for host in ["", "a b", "a\r\nHost: b", "a/b", "a@b", "[::1]", &"a".repeat(254)] {
            assert!(!is_name(host), "{host:?}");
        }
    }
}
