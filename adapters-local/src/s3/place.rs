//! Where blobs lie on an S3 service, as one URL: `s3://BUCKET[/PREFIX][?endpoint=…&region=…&addressing=…&checksums=…]`.

use std::fmt;
use std::str::FromStr;

use burstflare_ports::blob::BlobKey;

/// A bucket, a prefix in it, and how the service is spoken to. It holds no credentials, and refuses a text that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    pub(super) bucket: String,
    pub(super) prefix: Option<BlobKey>,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) addressing: Addressing,
    pub(super) checksums: Checksums,
}

/// Where the bucket's name stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressing {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    Host,
}

/// Which checksums go with what is stored. The SHA-256 of every body is signed in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    /// A CRC-32 with every part, which the service compares and keeps.
    Supported,
    /// Only where the protocol insists: for services that do not know the newer headers.
    Required,
}

/// Text that names no place on an S3 service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct InvalidS3Place {
    what: &'static str,
    hint: &'static str,
}

const FORM: &str = "write s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=NAME";

const fn invalid(what: &'static str, hint: &'static str) -> InvalidS3Place {
    InvalidS3Place { what, hint }
}

impl FromStr for S3Place {
    type Err = InvalidS3Place;

    fn from_str(text: &str) -> Result<Self, InvalidS3Place> {
        let rest = text.strip_prefix("s3://").ok_or(invalid("not a URL of an S3 bucket", FORM))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if bucket.contains(['@', ':']) {
            return Err(invalid(
                "credentials do not belong into the URL",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials",
            ));
        }
        if !is_bucket(bucket) {
            return Err(invalid("not the name of a bucket", "3 to 63 of a-z 0-9 . and -"));
        }
        let prefix =
            match prefix.trim_end_matches('/') {
                "" => None,
                prefix => Some(prefix.parse().map_err(|_| {
                    invalid("not a prefix", "1 to 8 segments of a-z A-Z 0-9 . _ - joined by /")
                })?),
            };
        let (mut endpoint, mut region, mut addressing, mut checksums) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let again = match name.as_ref() {
                "endpoint" => endpoint.replace(endpoint_of(&value)?).is_some(),
                "region" => region.replace(region_of(&value)?).is_some(),
                "addressing" => addressing
                    .replace(match value.as_ref() {
                        "path" => Addressing::Path,
                        "host" => Addressing::Host,
                        _ => return Err(invalid("not a kind of addressing", "`path` or `host`")),
                    })
                    .is_some(),
                "checksums" => checksums
                    .replace(match value.as_ref() {
                        "supported" => Checksums::Supported,
                        "required" => Checksums::Required,
                        _ => return Err(invalid("not a choice of checksums", "`supported` or `required`")),
                    })
                    .is_some(),
                _ => {
                    return Err(invalid(
                        "an unknown word behind ?",
                        "`endpoint`, `region`, `addressing` and `checksums` are known",
                    ));
                }
            };
            if again {
                return Err(invalid("a word behind ? stands there twice", FORM));
            }
        }
        // Certificates cover one label before the service's name, and few services of one's own have a name per bucket.
        let host = endpoint.is_none() && !bucket.contains('.');
        let usual = if host { Addressing::Host } else { Addressing::Path };
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix,
            endpoint,
            region,
            addressing: addressing.unwrap_or(usual),
            checksums: checksums.unwrap_or(Checksums::Supported),
        })
    }
}

/// What is stored, and where: two texts that differ in how the service is spoken to name the same place.
impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if let Some(prefix) = &self.prefix {
            write!(f, "/{prefix}")?;
        }
        match &self.endpoint {
            Some(endpoint) => write!(f, "?endpoint={endpoint}"),
            None => Ok(()),
        }
    }
}

impl S3Place {
    /// What the keys of the service begin with.
    pub(super) fn root(&self) -> String {
        self.prefix.as_ref().map_or_else(String::new, |prefix| format!("{prefix}/"))
    }

    /// The service's key of a blob.
    pub(super) fn key(&self, key: &BlobKey) -> String {
        format!("{}{key}", self.root())
    }

    /// Whether the service is on this very machine.
    pub(super) fn is_loopback(&self) -> bool {
        let Some((_, authority)) = self.endpoint.as_deref().and_then(|text| text.split_once("://")) else {
            return false;
        };
        let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { authority }
        });
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether what is read and written crosses a network for everybody to see.
    #[must_use]
    pub fn is_open_to_eavesdroppers(&self) -> bool {
        !self.is_loopback() && self.endpoint.as_deref().is_some_and(|text| text.starts_with("http://"))
    }
}

fn is_bucket(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| letter(byte) || byte == b'.' || byte == b'-')
        && name.bytes().next().is_some_and(letter)
        && name.bytes().last().is_some_and(letter)
        && !name.contains("..")
}

fn endpoint_of(text: &str) -> Result<String, InvalidS3Place> {
    const HINT: &str = "https://HOST or http://HOST:PORT, without a path";
    let uri: http::Uri = text.parse().map_err(|_| invalid("not an endpoint", HINT))?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
    let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
        return Err(invalid("not an endpoint", HINT));
    };
    let plain = !authority.as_str().contains('@')
        && !authority.host().is_empty()
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    if plain { Ok(format!("{scheme}://{authority}")) } else { Err(invalid("not an endpoint", HINT)) }
}

fn region_of(text: &str) -> Result<String, InvalidS3Place> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if fits { Ok(text.to_owned()) } else { Err(invalid("not a region", "for example eu-central-1, or auto")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_whole() {
        let place: S3Place =
            "s3://flare-blobs/a/b/?endpoint=https%3A%2F%2Fs3.example%3A9000&region=auto&checksums=required"
                .parse()
                .expect("a place");
        assert_eq!((place.bucket.as_str(), place.root().as_str()), ("flare-blobs", "a/b/"));
        assert_eq!(place.endpoint.as_deref(), Some("https://s3.example:9000"));
        assert_eq!((place.addressing, place.checksums), (Addressing::Path, Checksums::Required));
        assert_eq!(place.to_string(), "s3://flare-blobs/a/b?endpoint=https://s3.example:9000");
        let aws: S3Place = "s3://flare-blobs".parse().expect("a place");
        assert_eq!((aws.addressing, aws.root().as_str()), (Addressing::Host, ""));
        let dotted: S3Place = "s3://flare.blobs".parse().expect("a place");
        assert_eq!(dotted.addressing, Addressing::Path, "certificates cover one label");
        let plain = "s3://blobs/x?endpoint=http://127.0.0.1:3900&addressing=host";
        let near: S3Place = plain.parse().expect("unescaped, as people type it");
        assert!(near.is_loopback() && !near.is_open_to_eavesdroppers());
        let far: S3Place = "s3://blobs?endpoint=http://10.0.0.1:3900".parse().expect("a place");
        assert!(far.is_open_to_eavesdroppers());
    }

    #[test]
    fn what_is_no_place_is_refused_with_a_hint() {
        for (text, about) in [
            ("blobs", "s3://BUCKET"),
            ("s3://", "3 to 63"),
            ("s3://Blobs", "3 to 63"),
            ("s3://AKIA:secret@blobs", "AWS_ACCESS_KEY_ID"),
            ("s3://blobs/../x", "segments"),
            ("s3://blobs?endpoint=ftp://x", "https://HOST"),
            ("s3://blobs?endpoint=https://u:p@x", "https://HOST"),
            ("s3://blobs?endpoint=https://x/path", "https://HOST"),
            ("s3://blobs?region=a%20b", "region"),
            ("s3://blobs?region=a&region=b", "twice"),
            ("s3://blobs?secret=x", "unknown word"),
            ("s3://blobs?addressing=dns", "`path` or `host`"),
            ("s3://blobs?checksums=md5", "`supported` or `required`"),
        ] {
            let error = text.parse::<S3Place>().expect_err(text).to_string();
            assert!(error.contains(about), "{text}: {error}");
            assert!(!error.contains("secret@"), "{error}");
        }
    }
}
