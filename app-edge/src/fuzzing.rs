//! Parsers of this crate, for the fuzz targets.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};

use crate::config::{EdgeConfig, Origin};
use crate::cursor::Listing;
use crate::guard::{Site, probe};
use crate::query::Query;

/// A request with this host and origin and query.
///
/// # Panics
/// Where a host that is none of ours is answered, or a page of another origin.
pub fn request(host: &[u8], origin: &[u8], query: &[u8]) {
    if let Ok(query) = std::str::from_utf8(query) {
        let _ = Query::probe(query);
    }
    if let Ok(text) = std::str::from_utf8(origin)
        && let Ok(parsed) = Origin::parse(text)
    {
        assert_eq!(Origin::parse(&parsed.to_string()).map(|again| again.to_string()), Ok(parsed.to_string()));
    }
    let (Ok(host), Ok(origin)) = (HeaderValue::from_bytes(host), HeaderValue::from_bytes(origin)) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(HOST, host.clone());
    headers.insert(ORIGIN, origin.clone());
    let mut configs = vec![EdgeConfig::dev(8787)];
    configs.extend(Origin::parse("https://flare.example.com").map(|origin| EdgeConfig::serve(8787, origin)));
    for config in configs {
        let Ok((site, allowed)) = probe(&config, &Method::POST, &Uri::from_static("/"), &headers) else {
            continue;
        };
        let named = host.to_str().unwrap_or_default().to_ascii_lowercase();
        let name = named.rsplit_once(':').map_or(named.as_str(), |(name, _)| name);
        match &site {
            Site::Loopback { .. } => {
                assert!(["127.0.0.1", "[::1]", "localhost", "flare.localhost"].contains(&name), "{named}");
            }
            Site::Configured { .. } => assert_eq!(name.trim_end_matches(":443"), "flare.example.com"),
            _ => {}
        }
        let same = origin.to_str().is_ok_and(|origin| {
            let origin = origin.to_ascii_lowercase();
            origin == format!("http://{named}") || origin == "https://flare.example.com"
        });
        assert!(same || !allowed, "{origin:?} may change something at {host:?}");
    }
}

/// The path that a call of the files API names in its query.
#[must_use]
pub fn file_path(query: &[u8]) -> Option<String> {
    Query::probe(std::str::from_utf8(query).ok()?).ok()?.text("path").ok()?
}

/// A cursor of one list.
///
/// # Panics
/// Where one of another list is taken.
pub fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let ours = Listing::probe("ws_00000000000000000000000000/audit").read::<u64>(text);
    let other = Listing::probe("ws_00000000000000000000000001/audit").read::<u64>(text);
    assert!(ours.is_err() || other.is_err(), "a cursor is good for two lists");
}
