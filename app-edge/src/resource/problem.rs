use burstflare_ports::record;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an error answer says (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:burstflare:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// One sentence about this occurrence.
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// What to do next.
    pub hint: String,
    /// The field of the input it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Names the request in the server's log.
    pub request_id: String,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// Stable, for programs.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Something to know that stops nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// Stable, for programs: `not_supported_yet`, …
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl Warning {
    /// An accepted manifest key without effect yet.
    #[must_use]
    pub fn not_supported_yet(message: impl Into<String>) -> Self {
        Self { code: "not_supported_yet".to_owned(), message: message.into() }
    }
}

impl From<record::Failure> for Failure {
    fn from(failure: record::Failure) -> Self {
        Self { code: failure.code, message: failure.message, hint: failure.hint }
    }
}
