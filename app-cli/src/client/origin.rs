//! Whom to talk to.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use crate::exit::Failure;

/// Scheme, host and port of a server (RFC 6454): the key of everything that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    /// As it stands in URLs: a name, an IPv4 address, or an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// Reads a server's URL. A path other than `/`, credentials, queries and other schemes are refused.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::usage(format!("`{}` is not the URL of a server: {why}", crate::output::clean(text)))
                .hint("Give scheme, host and port alone, for example `--url http://127.0.0.1:8787`.")
        };
        let uri: Uri = text.trim().parse().map_err(|_| refuse("it cannot be read"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("credentials do not belong into URLs"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse("it has a path"));
        }
        let host = authority.host().to_ascii_lowercase();
        let valid = host.starts_with('[')
            || host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if host.is_empty() || !valid {
            return Err(refuse("its host name cannot be right"));
        }
        let named = authority.as_str()[authority.host().len()..].strip_prefix(':');
        let port = match named {
            None | Some("") => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(_) => authority
                .port_u16()
                .filter(|port| *port > 0)
                .ok_or_else(|| refuse("its port cannot be right"))?,
        };
        Ok(Self { secure, host, port })
    }

    /// Whether it is spoken to by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host as the resolver wants it, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is this very machine, by name or address (RFC 6761 section 6.3).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// What the `Host` header says.
    #[must_use]
    pub fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_text() {
        for (given, text) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787"),
            ("http://127.0.0.1:8787/", "http://127.0.0.1:8787"),
            ("HTTP://Flare.Localhost:80", "http://flare.localhost"),
            ("https://example.com:443", "https://example.com"),
            ("https://[::1]:9", "https://[::1]:9"),
        ] {
            assert_eq!(Origin::parse(given).map(|origin| origin.to_string()).as_deref(), Ok(text), "{given}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for bad in [
            "",
            "example.com",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a/b",
            "http://a?x=1",
            "http://a:0",
            "http://a:99999",
            "http://a:b",
            "file:///etc",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_address() {
        for (text, expected) in [
            ("http://127.0.0.1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:1", true),
            ("http://flare.localhost:1", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Origin::parse(text).map(|origin| origin.is_loopback()), Ok(expected), "{text}");
        }
    }
}
