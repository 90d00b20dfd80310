//! `/.flare/…` on a preview's host: the only paths there that are ours.

use axum::extract::Request;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use burstflare_core::Kind;
use burstflare_ports::record::Origin;
use burstflare_ports::secret::Secret;

use super::host::PreviewHost;
use super::{cookie, page};
use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::routes;
use crate::state::EdgeState;

/// What begins so never reaches the application.
pub(super) const RESERVED: &str = "/.flare/";
/// Where a ticket becomes a cookie.
pub(crate) const ENTER: &str = "/.flare/enter";
/// The longest path that a visitor is sent on to.
const PATH: usize = 4096;

/// Answers a request to a reserved path.
pub(super) async fn answer(state: &EdgeState, host: &PreviewHost, request: Request) -> Answer<Response> {
    if let (&Method::GET, Some(asset)) = (request.method(), asset(request.uri().path())) {
        return Ok(asset);
    }
    if request.uri().path() != ENTER {
        return Err(Refusal::http(
            StatusCode::NOT_FOUND,
            "no_route",
            "There is nothing at this path.",
            "Paths below /.flare/ are not the application's.",
        ));
    }
    if request.method() != Method::GET {
        return Err(routes::no_method().await);
    }
    // A browser that only guesses where its user will go spends no ticket.
    if request.headers().contains_key("sec-purpose") || request.headers().contains_key("purpose") {
        return Err(Refusal::http(
            StatusCode::SERVICE_UNAVAILABLE,
            "prefetch",
            "Tickets are for visits.",
            "Open the address.",
        ));
    }
    let mut query = Query::of(request.uri())?;
    let ticket = query.text("ticket")?.map(Secret::new);
    let to = query.text("to")?;
    query.finish()?;
    let ticket = ticket.ok_or_else(|| Refusal::invalid("ticket", "the parameter ticket is missing"))?;
    let location = location(host, to.as_deref().unwrap_or("/"))?;
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
    let value = match state.plane.enter_preview(host.place, &ticket, origin).await {
        Ok(value) => value,
        Err(error) if error.kind == Kind::Unauthenticated => return Ok(page::refused(host.place)),
        Err(error) => return Err(error.into()),
    };
    let cookie = cookie::set(&value, host.https).ok_or_else(Refusal::defect)?;
    let mut headers = HeaderMap::new();
    headers.insert(LOCATION, location);
    headers.insert(SET_COOKIE, cookie);
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// What our own pages there look like.
fn asset(path: &str) -> Option<Response> {
    match path.strip_prefix(RESERVED)? {
        "app.css" => Some(routes::stylesheet()),
        "flare.svg" => Some(routes::emblem()),
        _ => None,
    }
}

/// A path of this very host, written out with it: whatever the path looks like, it leads nowhere else.
fn location(host: &PreviewHost, to: &str) -> Answer<HeaderValue> {
    let visible = to.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte));
    let inside = to.starts_with('/') && !to.starts_with("//") && !to.starts_with(RESERVED);
    if !visible || !inside || to.len() > PATH {
        return Err(Refusal::invalid("to", "to is a path of this preview, such as /index.html"));
    }
    HeaderValue::try_from(format!("{}{to}", host.origin())).map_err(|_| Refusal::defect())
}

#[cfg(test)]
mod tests {
    use burstflare_core::service::PreviewPlace;
    use burstflare_ports::id::Id;
    use burstflare_ports::time::Timestamp;

    use super::*;
    use crate::config::EdgeConfig;

    #[test]
    fn visitors_are_sent_on_within_the_preview() {
        let place = PreviewPlace { session: Id::new(Timestamp::from_millis(1), [1; 10]), port: 3000 };
        let host = PreviewHost::of(&EdgeConfig::dev(8787), place).expect("a preview");
        for good in ["/", "/a?b=c&d#e", "/a//b", "/%2F%2Fevil", "/@evil.example", "/.flarex"] {
            let sent = location(&host, good).expect("a path");
            assert_eq!(sent.to_str().expect("text"), format!("{}{good}", host.origin()));
        }
        for bad in [
            "",
            "a",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/a\\b",
            "https://evil.example",
            "http:evil.example",
            "javascript:alert(1)",
            "@evil.example",
            ":80/evil",
            ".evil.example/",
            "/\t/evil.example",
            "/\n/evil.example",
            "/ä",
            "/.flare/enter?ticket=x",
            &"/a".repeat(PATH),
        ] {
            assert!(location(&host, bad).is_err(), "{bad:?}");
        }
    }
}
