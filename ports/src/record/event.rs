use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Something that changed, told to whoever listens in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened: `session.state`, `build.state`, `build.log`, `template.release`, …
    pub kind: String,
    /// The id of what it is about.
    pub subject: String,
    /// Small details (at most 4 KiB of JSON), never secrets.
    pub data: serde_json::Value,
    /// When.
    pub at: Timestamp,
}

/// An event with its place in the sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Grows with every event; the cursor of listeners.
    pub seq: u64,
    /// The event.
    pub event: Event,
}
