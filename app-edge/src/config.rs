//! How this edge is reached, and by whom it lets itself be asked.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, Uri};

use crate::preview::PreviewDomain;

/// An origin in the sense of RFC 6454: scheme, host and port, in its one text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    /// As it stands in a Host header: lower case, without the scheme's default port.
    authority: String,
}

/// The dashboard's name on this machine. Browsers resolve it by themselves (RFC 6761).
pub(crate) const DASHBOARD: &str = "flare.localhost";

/// What an origin is spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Text that is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin looks like https://flare.example.com, without path, query or user")]
pub struct InvalidOrigin;

impl Origin {
    /// Parses `http://…` or `https://…`.
    ///
    /// # Errors
    /// On everything but a scheme, a host and perhaps a port.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| InvalidOrigin)?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(InvalidOrigin),
        };
        let authority = uri.authority().ok_or(InvalidOrigin)?;
        if authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(InvalidOrigin);
        }
        let host = authority.host().to_ascii_lowercase();
        // Nothing but a port stands behind the host, and brackets stand around an IPv6 address.
        let behind = authority.as_str().get(host.len()..).ok_or(InvalidOrigin)?;
        let port = authority.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let named = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if behind != port || !(named || address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())) {
            return Err(InvalidOrigin);
        }
        let default = if scheme == Scheme::Https { 443 } else { 80 };
        let authority = match authority.port_u16() {
            Some(port) if port != default => format!("{host}:{port}"),
            _ => host,
        };
        Ok(Self { scheme, authority })
    }

    /// Host and port, as they stand in a Host header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone.
    #[must_use]
    pub fn host(&self) -> &str {
        let (host, port) = self.authority.rsplit_once(':').unwrap_or((&self.authority, ""));
        // The colons of an IPv6 address stand in brackets.
        if port.ends_with(']') { &self.authority } else { host }
    }

    /// The port, where it is not the scheme's own.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.authority.strip_prefix(self.host())?.strip_prefix(':')?.parse().ok()
    }

    /// Whether it is spoken over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}

impl std::str::FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        Self::parse(text)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.is_https() { "https" } else { "http" }, self.authority)
    }
}

/// Who is spared the rate limit of routes that need no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopbackRate {
    /// Clients on this machine are not counted: for `dev`.
    Free,
    /// Everybody is counted.
    Counted,
}

/// Whether a proxy on this machine is believed about whom it speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Nobody is believed: `X-Forwarded-For` is not looked at.
    Ignored,
    /// The last entry of `X-Forwarded-For` counts when the connection comes from this machine: the proxy put it there.
    FromLoopback,
}

/// How this edge is set up.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The port that loopback names are reached at; `None` where nothing listens on loopback (a Worker).
    pub port: Option<u16>,
    /// The origin people use, where it is not loopback.
    pub origin: Option<Origin>,
    /// Below it live the previews' hosts; without it there are none.
    pub previews: Option<PreviewDomain>,
    /// Calls a minute and address of routes that need no token.
    pub public_rate: u32,
    /// Whether clients on this machine are counted, too.
    pub loopback_rate: LoopbackRate,
    /// Whose word counts about where a request came from.
    pub forwarded: Forwarded,
    /// The version that is shown.
    pub version: String,
}

impl EdgeConfig {
    /// `dev` on this machine: loopback only, nobody is counted there.
    #[must_use]
    pub fn dev(port: u16) -> Self {
        Self {
            port: Some(port),
            origin: None,
            previews: Some(PreviewDomain::local()),
            public_rate: 60,
            loopback_rate: LoopbackRate::Free,
            forwarded: Forwarded::Ignored,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// A server with an origin of its own, perhaps behind a proxy on this machine.
    #[must_use]
    pub fn serve(port: u16, origin: Origin) -> Self {
        Self {
            origin: Some(origin),
            previews: None,
            loopback_rate: LoopbackRate::Counted,
            forwarded: Forwarded::FromLoopback,
            ..Self::dev(port)
        }
    }

    /// The URL of pages for browsers.
    pub(crate) fn browser_url(&self) -> String {
        match (&self.origin, self.port) {
            (Some(origin), _) => origin.to_string(),
            (None, Some(80) | None) => format!("http://{DASHBOARD}"),
            (None, Some(port)) => format!("http://{DASHBOARD}:{port}"),
        }
    }

    /// The URL that programs use: not a `.localhost` name, which resolvers outside browsers do not know.
    #[must_use]
    pub fn url(&self) -> String {
        match (&self.origin, self.port) {
            (Some(origin), _) => origin.to_string(),
            (None, Some(80) | None) => "http://127.0.0.1".to_owned(),
            (None, Some(port)) => format!("http://127.0.0.1:{port}"),
        }
    }
}

/// The address a request came from; whoever accepts connections puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// Whom a connection from this address speaks for.
    pub(crate) fn resolve(self, forwarded: Forwarded, headers: &HeaderMap) -> Self {
        let address = self.0.to_canonical();
        if forwarded == Forwarded::Ignored || !address.is_loopback() {
            return Self(address);
        }
        let last = headers.get_all("x-forwarded-for").iter().next_back();
        let named = last
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.rsplit(',').next())
            .and_then(|entry| entry.trim().parse::<IpAddr>().ok());
        Self(named.map_or(address, |named| named.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_text_form() {
        for (text, form) in [
            ("https://Flare.Example.com/", "https://flare.example.com"),
            ("https://flare.example.com:443", "https://flare.example.com"),
            ("http://flare.example.com:8080", "http://flare.example.com:8080"),
            ("http://[::1]:8787", "http://[::1]:8787"),
        ] {
            assert_eq!(Origin::parse(text).map(|origin| origin.to_string()), Ok(form.to_owned()), "{text}");
        }
        for bad in [
            "",
            "flare.example.com",
            "ftp://a",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://",
            "http://a[::1]b",
            "http://[x]",
            "http://a:99999",
            "http://a:",
            "http://:80",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_proxy_on_this_machine_is_believed() {
        let resolve = |peer: &str, forwarded, header: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", axum::http::HeaderValue::from_static(header));
            let peer = ClientAddress(peer.parse().expect("an address"));
            peer.resolve(forwarded, &headers).0.to_string()
        };
        assert_eq!(resolve("127.0.0.1", Forwarded::FromLoopback, "192.0.2.1, 198.51.100.2"), "198.51.100.2");
        assert_eq!(resolve("::ffff:127.0.0.1", Forwarded::FromLoopback, "x"), "127.0.0.1");
        assert_eq!(resolve("127.0.0.1", Forwarded::Ignored, "192.0.2.1"), "127.0.0.1");
        assert_eq!(resolve("203.0.113.9", Forwarded::FromLoopback, "192.0.2.1"), "203.0.113.9");
    }
}
