//! Which addresses a machine may reach: those of the public internet, and what the configuration allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::str::FromStr;

/// A block of addresses: `10.1.0.0/16`, `fd00::/8`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    length: u8,
}

/// Text that is no block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a block of addresses such as 10.1.0.0/16")]
pub struct InvalidCidr;

impl Cidr {
    const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length }
    }

    const fn v6(first: u16, second: u16, length: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), length }
    }

    /// Whether the block holds an address. Families never match each other.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (base, asked, width) = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(asked)) => {
                (u128::from(base.to_bits()), u128::from(asked.to_bits()), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(asked)) => (base.to_bits(), asked.to_bits(), 128),
            _ => return false,
        };
        let host_bits = width - u32::from(self.length);
        (base ^ asked).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let base: IpAddr = address.parse().map_err(|_| InvalidCidr)?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(width), str::parse).map_err(|_| InvalidCidr)?;
        if length > width { Err(InvalidCidr) } else { Ok(Self { base, length }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

/// What is not the public internet, from the IANA special-purpose registries of IPv4 (RFC 6890 and its updates).
const REFUSED_V4: [Cidr; 15] = [
    Cidr::v4(0, 0, 0, 0, 8),
    Cidr::v4(10, 0, 0, 0, 8),
    Cidr::v4(100, 64, 0, 0, 10),
    Cidr::v4(127, 0, 0, 0, 8),
    Cidr::v4(169, 254, 0, 0, 16),
    Cidr::v4(172, 16, 0, 0, 12),
    Cidr::v4(192, 0, 0, 0, 24),
    Cidr::v4(192, 0, 2, 0, 24),
    Cidr::v4(192, 88, 99, 0, 24),
    Cidr::v4(192, 168, 0, 0, 16),
    Cidr::v4(198, 18, 0, 0, 15),
    Cidr::v4(198, 51, 100, 0, 24),
    Cidr::v4(203, 0, 113, 0, 24),
    Cidr::v4(224, 0, 0, 0, 4),
    Cidr::v4(240, 0, 0, 0, 4),
];
/// All of IPv6's global unicast; loopback, link-local, unique local, multicast, IPv4-mapped and NAT64 (`64:ff9b::`)
/// addresses lie outside.
const GLOBAL_V6: Cidr = Cidr::v6(0x2000, 0, 3);
/// Within it: protocol assignments with Teredo and ORCHID, documentation, and 6to4, which carries an IPv4 address.
const REFUSED_V6: [Cidr; 4] =
    [Cidr::v6(0x2001, 0, 23), Cidr::v6(0x2001, 0xdb8, 32), Cidr::v6(0x2002, 0, 16), Cidr::v6(0x3fff, 0, 20)];

/// Whether an address is one of the public internet.
pub(crate) fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !REFUSED_V4.iter().any(|block| block.contains(address)),
        IpAddr::V6(_) => {
            GLOBAL_V6.contains(address) && !REFUSED_V6.iter().any(|block| block.contains(address))
        }
    }
}

/// Whether an address is this host's own: only those can be bound.
fn own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether a machine may reach an address.
pub(crate) fn allowed(address: IpAddr, allow: &[Cidr]) -> bool {
    allow.iter().any(|block| block.contains(address)) || (public(address) && !own(address))
}

/// Names that mean the host or its own network, wherever they would resolve to.
pub(crate) fn local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    ["localhost", "local", "internal", "home.arpa", "localdomain"]
        .iter()
        .any(|local| name == *local || name.strip_suffix(local).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn only_the_public_internet_is_open() {
        for good in ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00::1"] {
            assert!(public(ip(good)), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!public(ip(bad)), "{bad}");
        }
    }

    #[test]
    fn what_is_allowed_is_exactly_the_block() {
        let block: Cidr = "10.1.2.0/23".parse().expect("block");
        assert!(allowed(ip("10.1.3.255"), &[block]));
        assert!(!allowed(ip("10.1.4.0"), &[block]));
        assert!(!allowed(ip("::ffff:10.1.2.1"), &[block]), "another spelling is another address");
        let all: Cidr = "0.0.0.0/0".parse().expect("block");
        assert!(allowed(ip("127.0.0.1"), &[all]));
        assert!(!allowed(ip("::1"), &[all]));
        for bad in ["", "10.0.0.0/33", "x/8", "10.0.0.0/", "::/129"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_the_host_are_known() {
        for name in ["localhost", "LOCALHOST.", "a.localhost", "printer.local", "metadata.google.internal"] {
            assert!(local_name(name), "{name}");
        }
        for name in ["example.com", "notlocalhost", "local.example"] {
            assert!(!local_name(name), "{name}");
        }
    }
}
