//! The one error of all ports: what kind, whether trying again can help, in which operation, about what.

use std::error::Error;
use std::fmt;

/// What went wrong, in terms a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing does not exist.
    NotFound,
    /// The thing exists already, or changed meanwhile.
    Conflict,
    /// The caller speaks for an epoch that is over.
    Stale,
    /// The input is not acceptable.
    Invalid,
    /// The input is larger than a stated limit.
    TooLarge,
    /// Stored or transmitted bytes are not what they should be.
    Corrupt,
    /// The service behind the port does not answer, or not now.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// No space or quota is left at the place that stores.
    Full,
    /// The service behind the port refuses us.
    Denied,
    /// This backend cannot do that.
    Unsupported,
    /// A defect, ours or the backend's.
    Internal,
}

/// Whether the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It can: the cause passes by itself.
    Later,
    /// It cannot, without somebody changing something.
    Never,
}

/// A failure of a port.
pub struct PortError {
    kind: ErrorKind,
    operation: &'static str,
    context: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What every port answers.
pub type PortResult<T> = Result<T, PortError>;

impl PortError {
    /// An error of `kind` in `operation` (a name such as `blobs.get`); `context` says about what, without secrets.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, context: impl Into<String>) -> Self {
        Self { kind, operation, context: context.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again can help; it follows from the kind.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Full => Retry::Later,
            _ => Retry::Never,
        }
    }

    /// The operation that failed.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// What it was about.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.context)
    }
}

impl fmt::Debug for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}: {}", self.kind, self.operation, self.context)?;
        match &self.source {
            Some(source) => write!(f, " ({source:?})"),
            None => Ok(()),
        }
    }
}

impl Error for PortError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| -> &(dyn Error + 'static) { source.as_ref() })
    }
}
