//! A stand-in for the network side-car that workerd puts beside each local container, for machines that can pull no
//! image. It lets workerd reach the container's ports and answers its configuration; what the container sends out is
//! neither intercepted nor filtered here, so the deployment's rules about the internet do not hold with it.
//!
//! workerd speaks HTTP/1.1 to port 39001: `CONNECT` with the address in `X-Dst-Addr`, `PUT /egress`, `GET /ca`.
//! One file, the standard library alone: `rustc` builds it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const LISTEN: &str = "0.0.0.0:39001";
/// For a head, and for the container's port to take a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a head, and of a configuration.
const LIMIT: u64 = 64 << 10;
/// There is no authority here that would sign for others' hosts.
const NO_AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";

struct Head {
    method: String,
    target: String,
    destination: Option<SocketAddr>,
    length: u64,
}

fn head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut reader = reader.take(LIMIT);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut word = || words.next().ok_or_else(|| io::Error::other("no request"));
    let mut head = Head { method: word()?, target: word()?, destination: None, length: 0 };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a head without an end"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(head) };
        if name.eq_ignore_ascii_case("x-dst-addr") {
            head.destination = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("content-length") {
            head.length = value.trim().parse().unwrap_or(0).min(LIMIT);
        }
    }
}

fn answer(mut to: &TcpStream, status: &str, body: &str) -> io::Result<()> {
    write!(to, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Bytes of one side to the other, and its end after them.
fn pour(mut from: impl Read, to: &TcpStream) -> io::Result<()> {
    let poured = io::copy(&mut from, &mut &*to);
    let ended = to.shutdown(Shutdown::Write);
    poured.and(ended)
}

fn serve(client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client);
    let head = head(&mut reader)?;
    match (head.method.as_str(), head.target.as_str(), head.destination) {
        ("CONNECT", _, Some(destination)) => {
            let Ok(port) = TcpStream::connect_timeout(&destination, PATIENCE) else {
                // This is how workerd hears that nothing listens there.
                return answer(client, "400 Bad Request", "");
            };
            port.set_nodelay(true)?;
            client.set_read_timeout(None)?;
            (&*client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            thread::scope(|both| {
                both.spawn(|| pour(&port, client));
                pour(reader, &port)
            })
        }
        ("PUT", "/egress", _) => {
            io::copy(&mut reader.take(head.length), &mut io::sink())?;
            answer(client, "200 OK", "")
        }
        ("GET", "/ca", _) => answer(client, "200 OK", NO_AUTHORITY),
        _ => answer(client, "405 Method Not Allowed", ""),
    }
}

/// The host's address on the container's network, as docker writes it down for us.
fn host() -> Option<IpAddr> {
    let hosts = std::fs::read_to_string("/etc/hosts").ok()?;
    hosts.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name == "host.docker.internal").then_some(address)
    })
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(LISTEN)?;
    let host = host();
    for client in listener.incoming().flatten() {
        // Neither other containers nor the one beside us.
        if host.is_some() && client.peer_addr().ok().map(|peer| peer.ip()) != host {
            continue;
        }
        thread::spawn(move || {
            if let Err(problem) = serve(&client) {
                eprintln!("sidecar: {problem}");
            }
        });
    }
    Ok(())
}
