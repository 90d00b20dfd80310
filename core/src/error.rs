//! What a use case answers when it does not succeed.

use std::borrow::Cow;
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::store::CommitError;

/// Kinds of refusal; the edge maps each to one HTTP status, the CLI to one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The input is malformed (400).
    Invalid,
    /// Nobody, or not who they say (401).
    Unauthenticated,
    /// Known, but not allowed (403).
    Forbidden,
    /// Not there, or another tenant's (404).
    NotFound,
    /// Contradicts the present state (409).
    Conflict,
    /// A condition that the request made does not hold (412).
    Precondition,
    /// Over a limit of size (413).
    TooLarge,
    /// A quota of the plan (403) or a rate (429) is used up.
    Limited,
    /// Not offered here (501).
    Unsupported,
    /// Cannot be done right now (503).
    Unavailable,
    /// Took too long (504).
    Timeout,
    /// No space is left (507).
    Full,
    /// A defect (500).
    Internal,
}

/// A refusal: a stable code, a sentence, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind.
    pub kind: Kind,
    /// Stable, for programs: `name_taken`, `build_running`, …
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: Cow<'static, str>,
    /// The field of the input it is about.
    pub field: Option<&'static str>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// What lies behind it; for logs only.
    #[source]
    pub source: Option<Box<PortError>>,
}

/// What every use case answers.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal.
    #[must_use]
    pub fn new(
        kind: Kind,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            hint: hint.into(),
            field: None,
            retry_after: None,
            source: None,
        }
    }

    /// Malformed input in `field`.
    #[must_use]
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(Kind::Invalid, "invalid", message, "Correct the field and send it again.");
        error.field = Some(field);
        error
    }

    /// Nothing of this noun with that name or id, as far as the caller may know.
    #[must_use]
    pub fn not_found(noun: &'static str) -> Self {
        let list = match noun {
            "version" => "flare template versions".to_owned(),
            noun => format!("flare {noun} list"),
        };
        Self::new(
            Kind::NotFound,
            "not_found",
            format!("There is no such {noun} in this workspace."),
            format!("List what is there with `{list}`."),
        )
    }

    /// The present state does not allow it.
    #[must_use]
    pub fn conflict(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Kind::Conflict, code, message, hint)
    }

    /// Adds when to try again.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<PortError> for Error {
    fn from(error: PortError) -> Self {
        let (kind, code, hint) = match error.kind() {
            ErrorKind::NotFound => (Kind::NotFound, "not_found", "Check the id."),
            ErrorKind::Conflict | ErrorKind::Stale => {
                (Kind::Conflict, "changed_meanwhile", "Read it again and repeat the request.")
            }
            ErrorKind::Invalid => (Kind::Invalid, "invalid", "Correct the request and send it again."),
            ErrorKind::TooLarge => (Kind::TooLarge, "too_large", "Send less at once."),
            // An agent that was started by an older version: a new life of the machine has a new one.
            ErrorKind::Unsupported if error.operation() == "agent.call" => (
                Kind::Unsupported,
                "not_supported",
                "Restart the session: `flare session restart` gives it the server's present version.",
            ),
            ErrorKind::Unsupported => (Kind::Unsupported, "not_supported", "This deployment cannot do that."),
            ErrorKind::Unavailable => (Kind::Unavailable, "unavailable", "Try again in a moment."),
            ErrorKind::Timeout => (Kind::Timeout, "timeout", "Try again in a moment."),
            ErrorKind::Full => (Kind::Full, "no_space", "Make room on the server's disk, then try again."),
            ErrorKind::Denied | ErrorKind::Corrupt | ErrorKind::Internal => {
                (Kind::Internal, "internal", "Look at the server's log under this request id.")
            }
        };
        // Contexts of defects are for the log, not for strangers.
        let message = match kind {
            Kind::Internal => "The server could not do that because of a fault of its own.".to_owned(),
            _ => error.to_string(),
        };
        let mut refusal = Self::new(kind, code, message, hint);
        refusal.source = Some(Box::new(error));
        refusal
    }
}

impl From<CommitError> for Error {
    /// For guards that the use case did not expect to fail: somebody was faster.
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Failed(error) => error.into(),
            CommitError::Refused(_) => Self::conflict(
                "changed_meanwhile",
                "Somebody changed it at the same time.",
                "Read it again and repeat the request.",
            ),
        }
    }
}
