//! Mail that a person reads where the server runs.

use std::io::Write;
use std::sync::Mutex;

use async_trait::async_trait;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::mail::{Mail, Mailer};

use crate::tasks::locked;

/// Writes messages to a stream that the app gives, for example its standard error.
pub struct ConsoleMailer {
    out: Mutex<Box<dyn Write + Send>>,
}

impl ConsoleMailer {
    /// Writes to `out`.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out: Mutex::new(out) }
    }
}

#[async_trait]
impl Mailer for ConsoleMailer {
    async fn send(&self, mail: &Mail) -> PortResult<()> {
        let message = format!("mail to {}: {}\n{}\n", mail.to, mail.subject, mail.text.trim_end());
        let mut out = locked(&self.out);
        out.write_all(message.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
            PortError::new(ErrorKind::Unavailable, "mail.send", "the console takes no more text")
                .with_source(error)
        })
    }

    fn proves_addresses(&self) -> bool {
        false
    }
}
