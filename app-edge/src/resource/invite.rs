use burstflare_ports::id::Id;
use burstflare_ports::record::{self, Role};
use burstflare_ports::secret::Secret;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::RoleWord;

/// Makes an invite.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInvite {
    /// What who comes with it may do; not above the caller's own role.
    #[schema(value_type = RoleWord)]
    pub role: Role,
}

/// A single-use way into the workspace, without its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    /// Its id.
    #[schema(value_type = String, example = "grt_01JD0000000000000000000000")]
    pub id: Id<record::Grant>,
    /// What who comes with it may do.
    #[schema(value_type = Option<RoleWord>)]
    pub role: Option<Role>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A new invite, with its code, which is shown once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedInvite {
    /// The invite.
    #[serde(flatten)]
    pub about: Invite,
    /// Goes into `code` of registering.
    #[schema(value_type = String)]
    pub code: Secret<String>,
}

impl From<record::Grant> for Invite {
    fn from(grant: record::Grant) -> Self {
        Self { id: grant.id, role: grant.role, created_at: grant.created_at, expires_at: grant.expires_at }
    }
}
