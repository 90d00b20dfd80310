//! Listening sockets as the kernel lists them in /proc/net/tcp and tcp6 (proc_net(5)).

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of one read. The kernel gives whole lines, of 200 bytes at most, and no more than a page of them.
const PAGE: usize = 4096;

/// A socket that takes connections from the machine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listening {
    /// Where to connect to.
    pub(super) address: SocketAddr,
    /// Names the socket in `/proc/PID/fd`.
    pub(super) inode: u64,
}

/// All of this network namespace that can be reached over loopback.
pub(super) fn listening() -> Vec<Listening> {
    let mut found = Vec::new();
    for (file, read) in [("/proc/net/tcp", v4 as fn(&str) -> Option<IpAddr>), ("/proc/net/tcp6", v6)] {
        // Where the kernel has no IPv6 there is no file.
        let text = table(file).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| parse(line, read)));
    }
    found
}

/// A whole table, by as few reads as it takes: behind the listening sockets the kernel passes through its table of all
/// connections of the host with each read, empty ones included, which costs a millisecond where that table is large.
fn table(file: &str) -> io::Result<String> {
    let mut file = File::open(file)?;
    let mut text = Vec::new();
    let mut page = [0; PAGE];
    loop {
        let length = file.read(&mut page)?;
        text.extend_from_slice(page.get(..length).unwrap_or_default());
        // One more line would have found room.
        if length < PAGE / 2 {
            return String::from_utf8(text).map_err(io::Error::other);
        }
    }
}

fn parse(line: &str, read: fn(&str) -> Option<IpAddr>) -> Option<Listening> {
    const LISTEN: &str = "0A";
    let mut words = line.split_ascii_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    if words.nth(1)? != LISTEN {
        return None;
    }
    let inode = words.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Listening { address: SocketAddr::new(reachable(read(address)?)?, port), inode })
}

/// The address over which the machine reaches the socket; `None` where loopback does not lead there.
fn reachable(bound: IpAddr) -> Option<IpAddr> {
    match bound.to_canonical() {
        IpAddr::V4(address) if address.is_unspecified() => Some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(address) if address.is_unspecified() => Some(Ipv6Addr::LOCALHOST.into()),
        address if address.is_loopback() => Some(address),
        _ => None,
    }
}

/// Four bytes in the host's order, as one hexadecimal number.
fn v4(text: &str) -> Option<IpAddr> {
    let word = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 8)?;
    Some(Ipv4Addr::from(word.to_ne_bytes()).into())
}

/// Four such numbers.
fn v6(text: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
        let word = u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?;
        place.copy_from_slice(&word.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes).into()).filter(|_| text.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str, read: fn(&str) -> Option<IpAddr>) -> Option<(String, u64)> {
        parse(line, read).map(|found| (found.address.to_string(), found.inode))
    }

    #[test]
    fn a_table_of_several_pages_is_read_to_its_end() {
        let open: Vec<_> = (0..200)
            .map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
            .collect();
        let found: Vec<SocketAddr> = listening().into_iter().map(|socket| socket.address).collect();
        for listener in &open {
            let address = listener.local_addr().expect("its address");
            assert!(found.contains(&address), "{address} is not among {}", found.len());
        }
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let listening = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0";
        assert_eq!(at(listening, v4), Some(("127.0.0.1:3000".to_owned(), 4711)));
        assert_eq!(
            at(&listening.replace("0100007F", "00000000"), v4),
            Some(("127.0.0.1:3000".to_owned(), 4711))
        );
        assert_eq!(at(&listening.replace("0100007F", "0200000A"), v4), None, "10.0.0.2 is not loopback");
        assert_eq!(at(&listening.replace(" 0A ", " 01 "), v4), None, "a connection");
        let six = |address: &str| listening.replace("0100007F", address);
        for (text, wanted) in [
            ("00000000000000000000000000000000", Some("[::1]:3000")),
            ("00000000000000000000000001000000", Some("[::1]:3000")),
            ("0000000000000000FFFF00000100007F", Some("127.0.0.1:3000")),
            ("000080FE000000000000000001000000", None),
        ] {
            assert_eq!(at(&six(text), v6).map(|found| found.0), wanted.map(str::to_owned), "{text}");
        }
        for damaged in ["", "sl", "0: x:y z 0A", "0: 0100007F:0BB8 0 0A 0 0 0 0 0 x"] {
            assert_eq!(at(damaged, v4), None, "{damaged}");
        }
    }
}
