//! How this edge is reached, and by whom it lets itself be asked.

use std::net::IpAddr;

use axum::http::Uri;

/// An origin in the sense of RFC 6454: scheme, host and port, in its one text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    /// As it stands in a Host header: lower case, without the scheme's default port.
    authority: String,
}

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

    /// Whether it is spoken over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
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

/// How this edge is set up.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The port that loopback names are reached at; `None` where nothing listens on loopback (a Worker).
    pub port: Option<u16>,
    /// The origin people use, where it is not loopback.
    pub origin: Option<Origin>,
    /// Below it live the previews' hosts.
    pub preview_domain: String,
    /// Calls a minute and address of routes that need no token.
    pub public_rate: u32,
    /// Whether clients on this machine are counted, too.
    pub loopback_rate: LoopbackRate,
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
            preview_domain: "preview.localhost".to_owned(),
            public_rate: 60,
            loopback_rate: LoopbackRate::Free,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// A server behind an origin of its own.
    #[must_use]
    pub fn serve(port: u16, origin: Origin) -> Self {
        Self { origin: Some(origin), loopback_rate: LoopbackRate::Counted, ..Self::dev(port) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_text_form() {
        for (text, form) in [
            ("https://Flare.Example.com/", "https://flare.example.com"),
            ("https://flare.example.com:443", "https://flare.example.com"),
            ("http://flare.example.com:8080", "http://flare.example.com:8080"),
        ] {
            assert_eq!(Origin::parse(text).map(|origin| origin.to_string()), Ok(form.to_owned()), "{text}");
        }
        for bad in
            ["", "flare.example.com", "ftp://a", "https://a/b", "https://a?b", "https://u@a", "https://"]
        {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }
}
