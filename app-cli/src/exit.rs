//! Exit codes, and the one error that every command answers.
//!
//! | code | kind |
//! |---|---|
//! | 0 | done |
//! | 1 | something else went wrong, here or on the server |
//! | 2 | the command or its input is not acceptable (400, 413, 415, 421, 422) |
//! | 3 | there is no such thing (404, 410) |
//! | 4 | not signed in, or not allowed (401, 403) |
//! | 5 | contradicts the present state (409, 412) |
//! | 6 | a limit or quota is used up (429, 507, a plan's quota) |
//! | 7 | the server does not answer, or not now (502, 503) |
//! | 8 | it took too long (504, or a wait's own deadline) |
//! | 9 | not supported yet, or not by this server (501) |
//! | 10 | a build or session ended in failure |
//! | 130 | interrupted |
//!
//! `flare ssh` and `flare exec` answer the remote command's own code once it ran; 255 is OpenSSH's own.

use std::fmt;

/// Why the process ends the way it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Anything that has no code of its own.
    Other = 1,
    /// The command or its input is not acceptable.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Not signed in, or not allowed.
    Auth = 4,
    /// Contradicts the present state.
    Conflict = 5,
    /// A limit or quota is used up.
    Limit = 6,
    /// The server does not answer, or not now.
    Unavailable = 7,
    /// It took too long.
    Timeout = 8,
    /// Not supported yet, or not by this server.
    Unsupported = 9,
    /// A build or session ended in failure.
    Failed = 10,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What a command answers: the exit code, or why it has another one.
pub type Outcome = Result<u8, Failure>;

/// Something went wrong: what, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub exit: Exit,
    /// The server's stable code, where it was the server that refused.
    pub code: Option<String>,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Names the request in the server's log.
    pub request_id: Option<String>,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, message: message.into(), hint: None, request_id: None }
    }

    /// The command's input is not acceptable.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something on this machine went wrong.
    #[must_use]
    pub fn local(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new(Exit::Other, format!("{what}: {error}"))
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the server gave this code.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
