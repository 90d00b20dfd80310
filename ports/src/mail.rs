//! Mail.

use async_trait::async_trait;

use crate::error::PortResult;
use crate::text::Email;

/// A plain text message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// To whom.
    pub to: Email,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// Sends mail.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// Hands a message over.
    async fn send(&self, mail: &Mail) -> PortResult<()>;
    /// Whether messages reach their addressee, so that a code sent proves an address. A console does not.
    fn proves_addresses(&self) -> bool;
}
