//! Errors as answers: problem documents (RFC 9457). One match from a refusal's kind to its status.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use burstflare_core::{Error, Kind};

use crate::resource::Problem;

/// The media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal on its way to the outermost layer, which knows the request's id and writes it out.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    field: Option<String>,
    error: Arc<Error>,
}

/// What handlers answer.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    /// A refusal that only HTTP knows.
    pub(crate) fn http(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self { status, field: None, error: Arc::new(Error::new(Kind::Invalid, code, message, hint)) }
    }

    /// Malformed input in a field.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut refusal = Self::http(
            StatusCode::BAD_REQUEST,
            "invalid",
            message,
            "Correct the field and send the request again.",
        );
        refusal.field = Some(field.into());
        refusal
    }

    /// Too many requests.
    pub(crate) fn too_many(wait: Duration) -> Self {
        let error = Error::new(
            Kind::Limited,
            "too_many_requests",
            "There were too many requests from this address.",
            "Wait for as long as the header Retry-After says.",
        );
        error.after(wait).into()
    }

    /// A body past the route's limit.
    pub(crate) fn too_large(limit: u64) -> Self {
        Self::http(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("The body has more than {limit} bytes."),
            "Send less at once.",
        )
    }

    /// A route that is planned.
    pub(crate) fn not_supported(what: &str) -> Self {
        Error::new(
            Kind::Unsupported,
            "not_supported",
            format!("{what} is not supported yet."),
            "Update the server when a newer version offers it.",
        )
        .into()
    }

    /// This deployment has no domain for previews.
    pub(crate) fn no_previews() -> Self {
        Error::new(
            Kind::Unsupported,
            "not_supported",
            "This server has no previews.",
            "Start it with `--preview-domain`; `flare port-forward` works without.",
        )
        .into()
    }

    /// A panic was caught.
    pub(crate) fn defect() -> Self {
        Error::new(
            Kind::Internal,
            "internal",
            "The server could not do that because of a fault of its own.",
            "Look at the server's log under this request id.",
        )
        .into()
    }

    /// The status it will have.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence it will have.
    pub(crate) fn message(&self) -> String {
        self.error.message.clone()
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        self.error.hint.to_string()
    }

    /// Writes the document.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let error = &self.error;
        // What a visitor's application does wrong is no error of this server.
        let outside = matches!(self.status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
        if self.status.is_server_error() && !(outside && error.source.is_none()) {
            tracing::error!(request_id, code = error.code, source = ?error.source, "{error}");
        }
        let document = Problem {
            kind: format!("urn:burstflare:problem:{}", error.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: error.message.clone(),
            code: error.code.to_owned(),
            hint: error.hint.to_string(),
            field: self.field.clone().or_else(|| error.field.map(str::to_owned)),
            request_id: request_id.to_owned(),
        };
        let mut response = Response::new(Body::from(serde_json::to_vec(&document).unwrap_or_default()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"burstflare\""));
        }
        // Whole seconds, rounded up: who waits that long is not too early.
        let wait = error.retry_after.map(|wait| wait.as_millis().div_ceil(1000).max(1));
        let wait = wait.or((self.status == StatusCode::SERVICE_UNAVAILABLE).then_some(1));
        if let Some(seconds) = wait.and_then(|wait| u64::try_from(wait).ok()) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The one match from kinds to statuses.
fn status_of(error: &Error) -> StatusCode {
    match error.kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Precondition => StatusCode::PRECONDITION_FAILED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        // A rate passes by itself, a quota does not.
        Kind::Limited if error.retry_after.is_some() => StatusCode::TOO_MANY_REQUESTS,
        Kind::Limited => StatusCode::FORBIDDEN,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Full => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { status: status_of(&error), field: None, error: Arc::new(error) }
    }
}

impl IntoResponse for Refusal {
    /// An empty answer that carries the refusal to the layer that writes it.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_429_and_a_quota_403() {
        let quota = Error::new(Kind::Limited, "quota_exceeded", "m", "h");
        assert_eq!(Refusal::from(quota).status(), StatusCode::FORBIDDEN);
        let refusal = Refusal::too_many(Duration::from_millis(1_001));
        let response = refusal.render("req_1");
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
