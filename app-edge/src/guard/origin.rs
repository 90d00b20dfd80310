//! Whose page a request came from.

use axum::http::header::{ORIGIN, UPGRADE};
use axum::http::{HeaderMap, Method, StatusCode};

use super::Site;
use crate::problem::{Answer, Refusal};

/// Refuses what a page of somebody else's made a browser send, if it could do anything: a change, or an upgrade,
/// whose answer the page could read. Programs send neither header.
pub(super) fn check(site: &Site, method: &Method, headers: &HeaderMap) -> Answer<()> {
    let harmless = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    if harmless && !headers.contains_key(UPGRADE) {
        return Ok(());
    }
    let ours = site.origin();
    for origin in headers.get_all(ORIGIN) {
        let same = origin
            .to_str()
            .is_ok_and(|origin| ours.as_deref().is_some_and(|ours| origin.eq_ignore_ascii_case(ours)));
        if !same {
            return Err(foreign());
        }
    }
    // Sibling names are the same site to a browser, and previews are such siblings: only the same origin will do.
    let fetched = headers.get_all("sec-fetch-site").iter();
    if fetched.into_iter().any(|value| value != "same-origin" && value != "none") {
        return Err(foreign());
    }
    Ok(())
}

fn foreign() -> Refusal {
    Refusal::http(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "A page of another origin asked for this.",
        "Use the dashboard of this server, or a program that sends no Origin header.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let site = Site::Loopback { authority: "flare.localhost:8787".to_owned(), dashboard: true };
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        check(&site, method, &headers).is_ok()
    }

    #[test]
    fn changes_come_from_our_own_pages_or_from_no_page() {
        let ours = ("origin", "http://flare.localhost:8787");
        assert!(answer(&Method::POST, &[]));
        assert!(answer(&Method::POST, &[ours, ("sec-fetch-site", "same-origin")]));
        for foreign in [
            "null",
            "https://flare.localhost:8787",
            "http://flare.localhost",
            "http://flare.localhost:8788",
            "http://127.0.0.1:8787",
            "http://3000--01jd.preview.localhost:8787",
            "http://evil.example",
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert!(!answer(&method, &[("origin", foreign)]), "{method} from {foreign}");
            }
        }
        assert!(!answer(&Method::POST, &[ours, ("origin", "http://evil.example")]), "two origins");
        for site in ["cross-site", "same-site"] {
            assert!(!answer(&Method::POST, &[("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn upgrades_are_held_to_it_too() {
        let upgrade = ("upgrade", "websocket");
        assert!(answer(&Method::GET, &[upgrade]));
        assert!(answer(&Method::GET, &[upgrade, ("origin", "http://flare.localhost:8787")]));
        assert!(!answer(&Method::GET, &[upgrade, ("origin", "http://evil.example")]));
        assert!(answer(&Method::GET, &[("origin", "http://evil.example")]), "reads give no CORS headers");
    }
}
