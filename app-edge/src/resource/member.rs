use burstflare_ports::record::{self, Role};
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::User;
use super::schema::RoleWord;

/// Somebody's place in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Who.
    pub user: User,
    /// What they may do.
    #[schema(value_type = RoleWord)]
    pub role: Role,
    /// When they joined.
    #[schema(value_type = String, format = DateTime)]
    pub joined_at: Timestamp,
}

impl From<(record::Membership, record::User)> for Member {
    fn from((membership, user): (record::Membership, record::User)) -> Self {
        Self { user: user.into(), role: membership.role, joined_at: membership.created_at }
    }
}
