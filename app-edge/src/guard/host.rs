//! Which of our names a request came to.

use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode, Uri};

use crate::config::{DASHBOARD, EdgeConfig};
use crate::preview::PreviewHost;
use crate::problem::{Answer, Refusal};

/// Where a request arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    /// One of the names of this machine.
    Loopback {
        /// Host and port as asked, lower case.
        authority: String,
        /// Whether it is the name for browsers.
        dashboard: bool,
    },
    /// The configured origin.
    Configured {
        /// Its text form.
        origin: String,
        /// Whether it is spoken over TLS.
        https: bool,
    },
    /// A preview's name.
    Preview(PreviewHost),
}

impl Site {
    /// The origin that our own pages have here.
    pub(super) fn origin(&self) -> Option<String> {
        match self {
            Self::Loopback { authority, .. } => Some(format!("http://{authority}")),
            Self::Configured { origin, .. } => Some(origin.clone()),
            Self::Preview(host) => Some(host.origin()),
        }
    }
}

/// The site of a request.
pub(super) fn site(config: &EdgeConfig, uri: &Uri, headers: &HeaderMap) -> Answer<Site> {
    let authority = authority(uri, headers)?.to_ascii_lowercase();
    if let Some(origin) = config.origin.as_ref()
        && without_default(&authority, origin.is_https()) == origin.authority()
    {
        return Ok(Site::Configured { origin: origin.to_string(), https: origin.is_https() });
    }
    let (name, port) = split(&authority).ok_or_else(misdirected)?;
    let our_port = config.port.is_some_and(|ours| port.unwrap_or(80) == ours);
    if our_port && ["127.0.0.1", "[::1]", "localhost", DASHBOARD].contains(&name) {
        let dashboard = name == DASHBOARD;
        return Ok(Site::Loopback { authority, dashboard });
    }
    PreviewHost::read(config, name, port).map(Site::Preview).ok_or_else(misdirected)
}

/// The authority of the request line where there is one (RFC 9112, section 3.2.2), else the one Host header.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Answer<&'a str> {
    let malformed = || {
        Refusal::http(
            StatusCode::BAD_REQUEST,
            "host_malformed",
            "The request has no Host header, or more than one, or one that is not well formed.",
            "Send one Host header.",
        )
    };
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed());
    }
    if let Some(authority) = uri.authority() {
        return Ok(authority.as_str());
    }
    host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty()).ok_or_else(malformed)
}

fn misdirected() -> Refusal {
    Refusal::http(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected",
        "This server does not answer to that host name.",
        "Use the URL that the server printed when it started; for another name start it with --origin.",
    )
}

/// Host and port. `None` where the port is no number; user names never match a name of ours.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    // The colons of an IPv6 address stand in brackets.
    let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    match port_at {
        Some(at) => {
            let port = &authority[at + 1..];
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            Some((&authority[..at], Some(port.parse().ok().filter(|_| digits)?)))
        }
        None => Some((authority, None)),
    }
}

/// The port that an authority names.
pub(crate) fn port_of(authority: &str) -> Option<u16> {
    split(authority).and_then(|(_, port)| port)
}

fn without_default(authority: &str, https: bool) -> &str {
    authority.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn at(config: &EdgeConfig, host: &str) -> Option<Site> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header value"));
        site(config, &Uri::from_static("/"), &headers).ok()
    }

    #[test]
    fn only_names_of_ours_are_answered() {
        let config = EdgeConfig::dev(8787);
        for ours in
            ["127.0.0.1:8787", "[::1]:8787", "localhost:8787", "LOCALHOST:8787", "flare.localhost:8787"]
        {
            assert!(matches!(at(&config, ours), Some(Site::Loopback { .. })), "{ours}");
        }
        for foreign in [
            "evil.example:8787",
            "127.0.0.1",
            "127.0.0.1:8788",
            "127.0.0.1:08787x",
            "localhost.:8787",
            "flare.localhost.evil.example:8787",
            "x@127.0.0.1:8787",
            "127.0.0.1:8787:8787",
            "::1:8787",
            "127.1:8787",
            "0.0.0.0:8787",
            "127.0.0.1:+8787",
            "preview.localhost:8787",
            ".preview.localhost:8787",
            "xpreview.localhost:8787",
        ] {
            assert_eq!(at(&config, foreign), None, "{foreign}");
        }
        let preview = at(&config, "3000--01JD00000000000000000000AB.preview.localhost:8787");
        assert!(matches!(preview, Some(Site::Preview(_))), "{preview:?}");
    }

    #[test]
    fn the_configured_origin_is_answered_with_or_without_its_default_port() {
        let origin = Origin::parse("https://flare.example.com").expect("an origin");
        let config = EdgeConfig::serve(8787, origin);
        for ours in ["flare.example.com", "Flare.Example.Com:443"] {
            assert!(matches!(at(&config, ours), Some(Site::Configured { https: true, .. })), "{ours}");
        }
        for foreign in
            ["flare.example.com:80", "flare.example.com:8787", "example.com", "a.flare.example.com"]
        {
            assert_eq!(at(&config, foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let config = EdgeConfig::dev(8787);
        let mut headers = HeaderMap::new();
        assert!(site(&config, &Uri::from_static("/"), &headers).is_err());
        headers.append(HOST, "127.0.0.1:8787".parse().expect("a header value"));
        let absolute = Uri::from_static("http://evil.example:8787/");
        assert!(site(&config, &absolute, &headers).is_err(), "the request line decides");
        headers.append(HOST, "127.0.0.1:8787".parse().expect("a header value"));
        assert!(site(&config, &Uri::from_static("/"), &headers).is_err());
    }
}
