//! Our own pages: they say why the application's is not there, and what to do. Nothing in them is executed.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use burstflare_core::service::PreviewPlace;
use burstflare_ports::record::{Session, SessionState};

/// How to come in: for who has no cookie, whether or not there is such a preview.
pub(crate) fn entrance(place: PreviewPlace) -> Response {
    let command = format!("flare open {} {}", place.session, place.port);
    let text =
        "Previews are private unless somebody made them public. Who may get into the session comes in with:";
    page(StatusCode::OK, "This preview needs a ticket", text, Some(&command))
}

/// The session has no machine. Looking at it does not start one.
pub(super) fn asleep(session: &Session) -> Response {
    let (title, text) = match session.state {
        SessionState::Starting => ("The session is starting", "Load this page again in a moment."),
        SessionState::Stopping => ("The session is going to sleep", "It can be woken when it sleeps:"),
        _ => ("The session sleeps", "A preview does not wake it. Who works in it does, with:"),
    };
    let command = format!("flare session start {}", session.name);
    let command = (session.state != SessionState::Starting).then_some(command);
    let mut response = page(StatusCode::SERVICE_UNAVAILABLE, title, text, command.as_deref());
    response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("5"));
    response
}

/// The application does not answer.
pub(super) fn silent(status: StatusCode, message: &str) -> Response {
    page(status, "The application does not answer", message, None)
}

/// A ticket that opens nothing.
pub(super) fn refused(place: PreviewPlace) -> Response {
    let command = format!("flare open {} {}", place.session, place.port);
    let text = "It was used already, is older than a minute, or is for another preview. Get a new one with:";
    page(StatusCode::UNAUTHORIZED, "That ticket opens nothing", text, Some(&command))
}

fn page(status: StatusCode, title: &str, text: &str, command: Option<&str>) -> Response {
    let command = command.map(|command| format!("<pre><code>{}</code></pre>", escape(command)));
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"></head>\n\
         <body>\n<h1>{title}</h1>\n<p>{text}</p>\n{command}\n</body>\n</html>\n",
        title = escape(title),
        text = escape(text),
        command = command.unwrap_or_default(),
    );
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
