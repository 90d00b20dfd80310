//! Names of previews: `PORT--ULID.DOMAIN`, one label below the previews' domain, and nothing else.

use std::fmt;
use std::str::FromStr;

use burstflare_core::service::PreviewPlace;
use burstflare_ports::wire::AGENT_PORT;

use crate::config::{EdgeConfig, Origin};

/// The domain below which previews live, each in an origin of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewDomain(String);

/// Text that is no such domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPreviewDomain {
    /// It is no domain name.
    #[error(
        "a preview domain looks like preview.example.net: letters, digits and hyphens, without scheme and port"
    )]
    Malformed,
    /// Its pages and ours could set each other's cookies.
    #[error(
        "the preview domain and the server's own name must not contain each other: take another registrable domain"
    )]
    NotApart,
}

impl PreviewDomain {
    /// On this machine; browsers resolve what is below it by themselves (RFC 6761).
    #[must_use]
    pub fn local() -> Self {
        Self("preview.localhost".to_owned())
    }

    /// Whether content below it can do nothing to pages of this origin.
    ///
    /// # Errors
    /// `NotApart`.
    pub fn apart_from(self, origin: &Origin) -> Result<Self, InvalidPreviewDomain> {
        let host = origin.host();
        let below = |inner: &str, outer: &str| inner == outer || inner.ends_with(&format!(".{outer}"));
        let related = below(host, &self.0) || below(&self.0, host);
        if related { Err(InvalidPreviewDomain::NotApart) } else { Ok(self) }
    }

    /// What a host name says, if it is one of a preview.
    fn place(&self, name: &str) -> Option<PreviewPlace> {
        let label = name.strip_suffix(self.0.as_str())?.strip_suffix('.')?;
        let (port, ulid) = label.split_once("--")?;
        // One name for each place: an origin is a string.
        let number = port.parse::<u16>().ok().filter(|number| number.to_string() == port)?;
        let session = format!("ses_{ulid}").parse().ok()?;
        let place = PreviewPlace { session, port: number };
        (!matches!(number, 0 | AGENT_PORT) && label == label_of(place)).then_some(place)
    }
}

impl FromStr for PreviewDomain {
    type Err = InvalidPreviewDomain;

    fn from_str(text: &str) -> Result<Self, InvalidPreviewDomain> {
        let label = |label: &str| {
            let letters =
                label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            (1..=63).contains(&label.len()) && letters && !label.starts_with('-') && !label.ends_with('-')
        };
        let name = text.to_ascii_lowercase();
        // Below it stands a label of up to 33 characters; a name has at most 253.
        let numeric =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 200 || numeric || !name.contains('.') || !name.split('.').all(label) {
            return Err(InvalidPreviewDomain::Malformed);
        }
        Ok(Self(name))
    }
}

impl fmt::Display for PreviewDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn label_of(place: PreviewPlace) -> String {
    format!("{}--{}", place.port, place.session.ulid_lower())
}

/// The preview that a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreviewHost {
    /// Which.
    pub(crate) place: PreviewPlace,
    /// Host and port in their one text form.
    pub(crate) authority: String,
    /// Whether it is spoken over TLS.
    pub(crate) https: bool,
}

impl PreviewHost {
    /// The host of a place; `None` where this deployment has no previews.
    pub(crate) fn of(config: &EdgeConfig, place: PreviewPlace) -> Option<Self> {
        let domain = config.previews.as_ref()?;
        let https = config.origin.as_ref().is_some_and(Origin::is_https);
        let port = match &config.origin {
            Some(origin) => origin.port(),
            None => config.port.filter(|port| *port != 80),
        };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(Self { place, authority: format!("{}.{domain}{port}", label_of(place)), https })
    }

    /// The preview of a Host header in lower case; the port has to be the one that previews are reached at.
    pub(crate) fn read(config: &EdgeConfig, name: &str, port: Option<u16>) -> Option<Self> {
        let place = config.previews.as_ref()?.place(name)?;
        let host = Self::of(config, place)?;
        let default = if host.https { 443 } else { 80 };
        let (wanted, given) = (super::super::guard::port_of(&host.authority), port.unwrap_or(default));
        (wanted.unwrap_or(default) == given).then_some(host)
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Its origin (RFC 6454).
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ULID: &str = "01jd00000000000000000000ab";

    fn read(config: &EdgeConfig, name: &str, port: Option<u16>) -> Option<u16> {
        PreviewHost::read(config, name, port).map(|host| host.place.port)
    }

    #[test]
    fn a_preview_has_one_name() {
        let config = EdgeConfig::dev(8787);
        let name = |label: &str| format!("{label}.preview.localhost");
        assert_eq!(read(&config, &name(&format!("3000--{ULID}")), Some(8787)), Some(3000));
        for label in [
            format!("03000--{ULID}"),
            format!("+3000--{ULID}"),
            format!("0--{ULID}"),
            format!("65536--{ULID}"),
            format!("61780--{ULID}"),
            format!("--{ULID}"),
            format!("3000-{ULID}"),
            format!("3000---{ULID}"),
            format!("3000--{ULID}a"),
            format!("3000--{}", &ULID[1..]),
            format!("3000--8{}", &ULID[1..]),
            format!("3000--ses_{ULID}"),
            format!("3000--{}", ULID.replace("ab", "il")),
            format!("3000--{}", ULID.to_uppercase()),
            format!("x.3000--{ULID}"),
            format!("xn--3000--{ULID}"),
            format!("3000--{ULID}."),
            format!("3000--{ULID}..x"),
            String::new(),
        ] {
            assert_eq!(read(&config, &name(&label), Some(8787)), None, "{label}");
        }
        let good = name(&format!("3000--{ULID}"));
        for (other, port) in [
            (good.clone(), Some(8788)),
            (good.clone(), None),
            (format!("{good}."), Some(8787)),
            (format!("{good}.evil.example"), Some(8787)),
            (format!("3000--{ULID}preview.localhost"), Some(8787)),
            (format!("3000--{ULID}.xpreview.localhost"), Some(8787)),
        ] {
            assert_eq!(read(&config, &other, port), None, "{other} {port:?}");
        }
    }

    #[test]
    fn a_servers_previews_are_reached_as_it_is() {
        let origin = Origin::parse("https://flare.example.com").expect("an origin");
        let mut config = EdgeConfig::serve(8787, origin);
        let name = format!("3000--{ULID}.preview.example.net");
        assert_eq!(read(&config, &name, None), None, "without a domain there are none");
        config.previews = Some("Preview.Example.Net".parse().expect("a domain"));
        assert_eq!(read(&config, &name, None), Some(3000));
        assert_eq!(read(&config, &name, Some(443)), Some(3000));
        assert_eq!(read(&config, &name, Some(8787)), None);
        let host = PreviewHost::read(&config, &name, Some(443)).expect("a preview");
        assert_eq!(host.origin(), format!("https://{name}"));
    }

    #[test]
    fn the_domain_is_apart_from_the_servers_name() {
        let origin = Origin::parse("https://flare.example.com:8443").expect("an origin");
        let apart = |text: &str| text.parse::<PreviewDomain>().and_then(|domain| domain.apart_from(&origin));
        assert!(apart("preview.example.net").is_ok());
        assert!(apart("preview-example.com").is_ok());
        for related in ["flare.example.com", "example.com", "preview.flare.example.com"] {
            assert_eq!(apart(related), Err(InvalidPreviewDomain::NotApart), "{related}");
        }
        for bad in
            ["", "com", "a..b", "-a.b", "a-.b", "a_b.c", "a b.c", "1.2.3.4", "a.b:80", "https://a.b", "ä.b"]
        {
            assert_eq!(apart(bad), Err(InvalidPreviewDomain::Malformed), "{bad}");
        }
    }
}
