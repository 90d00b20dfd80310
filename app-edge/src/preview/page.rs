//! Our own pages: they say why the application's is not there, and what to do. Nothing in them is executed.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use burstflare_core::service::PreviewPlace;
use burstflare_ports::record::{Session, SessionState};

use super::enter::RESERVED;
use crate::problem::Refusal;

/// Where our own host has them.
const OURS: &str = "/assets/";

/// How to come in: for who has no cookie, whether or not there is such a preview.
pub(crate) fn entrance(place: PreviewPlace) -> Response {
    let command = format!("flare open {} {}", place.session, place.port);
    let text =
        "Previews are private unless somebody made them public. Who may get into the session comes in with:";
    Page { title: "This preview needs a ticket", texts: &[text], command: Some(&command), ..Page::at(OURS) }
        .answer(StatusCode::OK)
}

/// The session has no machine. Looking at it does not start one.
pub(super) fn asleep(session: &Session) -> Response {
    let (title, text) = match session.state {
        SessionState::Starting => ("The session is starting", "This page loads again by itself in a moment."),
        SessionState::Stopping => ("The session is going to sleep", "It can be woken when it sleeps:"),
        _ => ("The session sleeps", "A preview does not wake it. Who works in it does, with:"),
    };
    let command = format!("flare session start {}", session.name);
    let starting = session.state == SessionState::Starting;
    let page = Page {
        title,
        texts: &[text],
        command: (!starting).then_some(command.as_str()),
        again: starting,
        ..Page::at(RESERVED)
    };
    let mut response = page.answer(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("5"));
    response
}

/// The application does not answer.
pub(super) fn silent(refusal: &Refusal) -> Response {
    let (message, hint) = (refusal.message(), refusal.hint());
    let page =
        Page { title: "The application does not answer", texts: &[&message, &hint], ..Page::at(RESERVED) };
    page.answer(refusal.status())
}

/// A ticket that opens nothing.
pub(super) fn refused(place: PreviewPlace) -> Response {
    let command = format!("flare open {} {}", place.session, place.port);
    let text = "It was used already, is older than a minute, or is for another preview. Get a new one with:";
    let page = Page {
        title: "That ticket opens nothing",
        texts: &[text],
        command: Some(&command),
        ..Page::at(RESERVED)
    };
    page.answer(StatusCode::UNAUTHORIZED)
}

/// What a page says.
struct Page<'a> {
    title: &'a str,
    texts: &'a [&'a str],
    command: Option<&'a str>,
    /// Whether it loads again by itself.
    again: bool,
    /// Where this host has our style and icon.
    assets: &'a str,
}

impl<'a> Page<'a> {
    fn at(assets: &'a str) -> Self {
        Self { title: "", texts: &[], command: None, again: false, assets }
    }

    fn answer(&self, status: StatusCode) -> Response {
        let Self { assets, .. } = self;
        let title = escape(self.title);
        let texts: String = self.texts.iter().map(|text| format!("  <p>{}</p>\n", code(text))).collect();
        let command = self
            .command
            .map(|command| format!("  <div class=\"line\"><code>{}</code></div>\n", escape(command)));
        let again = if self.again { "<meta http-equiv=\"refresh\" content=\"2\">\n" } else { "" };
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"robots\" content=\"noindex\">\n\
             {again}<link rel=\"icon\" href=\"{assets}flare.svg\">\n<link rel=\"stylesheet\" href=\"{assets}app.css\">\n\
             </head>\n<body class=\"notice\">\n<main>\n  <span class=\"brand\"><img src=\"{assets}flare.svg\" alt=\"\" width=\"24\" \
             height=\"24\">BurstFlare</span>\n  <h1>{title}</h1>\n{texts}{}</main>\n</body>\n</html>\n",
            command.unwrap_or_default(),
        );
        (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
    }
}

/// Text in which what stands between backticks is a command.
fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
