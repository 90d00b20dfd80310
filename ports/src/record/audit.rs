use serde::{Deserialize, Serialize};

use super::{Token, User};
use crate::id::Id;
use crate::time::Timestamp;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A user, by a token where they had one.
    User {
        /// The user.
        user: Id<User>,
        /// The token.
        token: Option<Id<Token>>,
    },
    /// The control plane itself.
    System,
}

/// Where a request came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Address of the client.
    pub ip: Option<String>,
    /// What it calls itself, at most 200 characters.
    pub user_agent: Option<String>,
    /// Names the request in logs and answers.
    pub request_id: Option<String>,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// From where.
    pub origin: Origin,
    /// What: `template.create`, `session.stop`, …
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// Details without secrets; before and after for settings.
    pub detail: serde_json::Value,
}

/// An audit line with its place in the sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAudit {
    /// Grows with every line.
    pub seq: u64,
    /// The line.
    pub entry: AuditEntry,
}
