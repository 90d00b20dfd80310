use burstflare_ports::id::Id;
use burstflare_ports::record::{self, Actor};
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLine {
    /// Its place in the workspace's sequence.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who; null is the control plane itself.
    #[schema(value_type = Option<String>)]
    pub user: Option<Id<record::User>>,
    /// By which token.
    #[schema(value_type = Option<String>)]
    pub token: Option<Id<record::Token>>,
    /// From which address.
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// What: `template.create`, `session.stop`, …
    pub action: String,
    /// To what.
    pub target: String,
    /// Details without secrets.
    pub detail: serde_json::Value,
}

impl From<record::StoredAudit> for AuditLine {
    fn from(stored: record::StoredAudit) -> Self {
        let record::AuditEntry { at, actor, origin, action, target, detail } = stored.entry;
        let (user, token) = match actor {
            Actor::User { user, token } => (Some(user), token),
            Actor::System => (None, None),
        };
        Self {
            seq: stored.seq,
            at,
            user,
            token,
            ip: origin.ip,
            user_agent: origin.user_agent,
            request_id: origin.request_id,
            action,
            target,
            detail,
        }
    }
}
