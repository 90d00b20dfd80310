//! What the server's refusals (RFC 9457) become here.

use http::StatusCode;
use serde_json::Value;

use super::Origin;
use crate::exit::{Exit, Failure};

/// The exit code of a status. A quota of the plan comes as 403 with a code that says so.
#[must_use]
pub fn exit_of(status: StatusCode, code: Option<&str>) -> Exit {
    let quota = code.is_some_and(|code| code.contains("quota") || code.contains("limit"));
    match status.as_u16() {
        400 | 405 | 413 | 415 | 421 | 422 => Exit::Usage,
        404 | 410 => Exit::NotFound,
        403 if quota => Exit::Limit,
        401 | 403 => Exit::Auth,
        409 | 412 | 428 => Exit::Conflict,
        429 | 507 => Exit::Limit,
        502 | 503 => Exit::Unavailable,
        408 | 504 => Exit::Timeout,
        501 => Exit::Unsupported,
        _ => Exit::Other,
    }
}

/// Reads an error answer. Something else than a problem document is shown as what it is: not our server.
#[must_use]
pub(super) fn failure(origin: &Origin, status: StatusCode, location: Option<&str>, body: &[u8]) -> Failure {
    if status.is_redirection() {
        let target = location.unwrap_or("another place");
        return Failure::new(
            Exit::Unavailable,
            format!("{origin} redirects to {target}; redirects are not followed"),
        )
        .hint("Give the server's own address with `--url`.");
    }
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| document[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if document["ready"] == false {
        return not_ready(&document);
    }
    let code = text("code");
    let exit = exit_of(status, code.as_deref());
    let Some(mut message) = text("detail").or_else(|| text("title")) else {
        return Failure::new(exit, format!("{origin} answered {status}"))
            .hint("Check that `--url` names a BurstFlare server.");
    };
    if let Some(field) = text("field").filter(|field| !message.contains(field)) {
        message = format!("{field}: {message}");
    }
    Failure { exit, code, message, hint: text("hint"), request_id: text("request_id") }
}

/// `/readyz` says which of its dependencies does not answer.
fn not_ready(document: &Value) -> Failure {
    let bad = document["probes"].as_object().into_iter().flatten().filter(|(_, probe)| probe["ok"] != true);
    let names: Vec<String> =
        bad.map(|(name, probe)| format!("{name} ({})", crate::table::field(probe, "problem"))).collect();
    Failure::new(Exit::Unavailable, format!("the server is not ready: {}", names.join(", ")))
        .hint("Look into the server's log.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::parse("http://127.0.0.1:1").expect("an origin")
    }

    #[test]
    fn problem_documents_keep_code_hint_and_request() {
        let body = br#"{"status":409,"code":"build_running","title":"Conflict","detail":"It still builds.","hint":"Wait.","request_id":"req_1"}"#;
        let failure = failure(&origin(), StatusCode::CONFLICT, None, body);
        assert_eq!(failure.exit, Exit::Conflict);
        assert!(failure.is("build_running"));
        assert_eq!(failure.message, "It still builds.");
        assert_eq!(failure.hint.as_deref(), Some("Wait."));
        assert_eq!(failure.request_id.as_deref(), Some("req_1"));
    }

    #[test]
    fn other_answers_are_not_taken_for_problems() {
        let failure = failure(&origin(), StatusCode::BAD_GATEWAY, None, b"<html>oops</html>");
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("502"), "{failure}");
    }

    #[test]
    fn a_server_that_is_not_ready_says_what_is_wrong() {
        let body =
            br#"{"ready":false,"probes":{"blobs":{"ok":true},"store":{"ok":false,"problem":"timeout"}}}"#;
        let failure = failure(&origin(), StatusCode::SERVICE_UNAVAILABLE, None, body);
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (Exit::Unavailable, "the server is not ready: store (timeout)")
        );
    }

    #[test]
    fn a_quota_is_a_limit_not_a_matter_of_rights() {
        assert_eq!(exit_of(StatusCode::FORBIDDEN, Some("quota_sessions")), Exit::Limit);
        assert_eq!(exit_of(StatusCode::FORBIDDEN, Some("forbidden")), Exit::Auth);
    }
}
