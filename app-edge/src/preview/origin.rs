//! Whose page made a browser send a request to a preview.
//!
//! A cookie comes along whoever asks for it, and to a browser previews are one site: `SameSite` does not keep siblings
//! apart. So where the cookie is why a visitor may come, the request has to be of the preview's own pages, or be a
//! visit.

use axum::http::header::{ORIGIN, UPGRADE};
use axum::http::{HeaderMap, Method, StatusCode};

use super::host::PreviewHost;
use crate::problem::{Answer, Refusal};

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A visit by a browser: by Fetch Metadata, or by what is asked for where a browser has none.
pub(super) fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let mode = header(headers, "sec-fetch-mode");
    let html = header(headers, "accept").is_some_and(|accept| accept.contains("text/html"));
    *method == Method::GET
        && html
        && mode.is_none_or(|mode| mode == "navigate")
        && !headers.contains_key(UPGRADE)
        && !headers.contains_key(ORIGIN)
}

/// A browser asking for itself, without anybody's credentials, whether a page may ask (Fetch, section 3.2.2).
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key("access-control-request-method")
}

/// Refuses what another origin's page made a browser send along with its cookie.
pub(super) fn check(host: &PreviewHost, method: &Method, headers: &HeaderMap) -> Answer<()> {
    let ours = host.origin();
    for origin in headers.get_all(ORIGIN) {
        // Navigations by form carry one too: the form of another page is not a visit.
        if !origin.to_str().is_ok_and(|origin| origin == ours) {
            return Err(foreign());
        }
    }
    let site = header(headers, "sec-fetch-site").unwrap_or("none");
    if matches!(site, "same-origin" | "none") {
        return Ok(());
    }
    // Another site's page may link here, and nothing more: no frames, which could be laid under its own.
    let visit = is_navigation(method, headers)
        && header(headers, "sec-fetch-dest").is_none_or(|dest| dest == "document");
    if visit { Ok(()) } else { Err(foreign()) }
}

fn foreign() -> Refusal {
    Refusal::http(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "A page of another origin asked for this.",
        "Ask from the preview's own pages, or with the header Flare-Authorization; or make the port public.",
    )
}

#[cfg(test)]
mod tests {
    use burstflare_core::service::PreviewPlace;
    use burstflare_ports::id::Id;
    use burstflare_ports::time::Timestamp;

    use super::*;
    use crate::config::EdgeConfig;

    fn passes(method: &Method, headers: &[(&'static str, &str)]) -> bool {
        let place = PreviewPlace { session: Id::new(Timestamp::from_millis(1), [1; 10]), port: 3000 };
        let host = PreviewHost::of(&EdgeConfig::dev(8787), place).expect("a preview");
        let origin = host.origin();
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let value = value.replace("OWN", &origin);
                (name.parse().expect("a name"), value.parse().expect("a value"))
            })
            .collect();
        check(&host, method, &headers).is_ok()
    }

    #[test]
    fn a_cookie_counts_for_the_previews_own_pages_and_for_visits() {
        let (own, html) = (("origin", "OWN"), ("accept", "text/html"));
        for method in [Method::GET, Method::POST, Method::DELETE] {
            assert!(passes(&method, &[]), "a program");
            assert!(passes(&method, &[own, ("sec-fetch-site", "same-origin")]));
            for foreign in
                ["null", "http://evil.example", "http://flare.localhost:8787", "OWN.evil.example", "OWN0"]
            {
                assert!(!passes(&method, &[("origin", foreign)]), "{method} {foreign}");
            }
            for site in ["same-site", "cross-site"] {
                assert!(
                    !passes(&method, &[("sec-fetch-site", site), ("sec-fetch-mode", "cors")]),
                    "{method} {site}"
                );
            }
        }
        for site in ["same-site", "cross-site"] {
            let visit = [
                html,
                ("sec-fetch-site", site),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ];
            assert!(passes(&Method::GET, &visit), "a link from {site}");
            assert!(!passes(&Method::POST, &visit), "a form of {site}");
            let mut frame = visit;
            frame[3].1 = "iframe";
            assert!(!passes(&Method::GET, &frame), "a frame of {site}");
        }
        assert!(!passes(&Method::GET, &[own, ("origin", "http://evil.example")]), "two origins");
        let socket =
            [("upgrade", "websocket"), ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "websocket")];
        assert!(!passes(&Method::GET, &socket));
    }
}
