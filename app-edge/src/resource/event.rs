use burstflare_ports::record;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the workspace's sequence: the `id` of the server-sent event.
    pub seq: u64,
    /// What happened: `session.state`, `build.state`, `build.log`, `template.release`, …
    pub kind: String,
    /// The id of what it is about.
    pub subject: String,
    /// Small details.
    pub data: serde_json::Value,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl From<record::StoredEvent> for Event {
    fn from(stored: record::StoredEvent) -> Self {
        let record::Event { kind, subject, data, at } = stored.event;
        Self { seq: stored.seq, kind, subject, data, at }
    }
}
