use burstflare_ports::id::Id;
use burstflare_ports::record::{self, Role};
use burstflare_ports::text::Slug;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::RoleWord;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    /// Its id.
    #[schema(value_type = String, example = "ws_01JD0000000000000000000000")]
    pub id: Id<record::Workspace>,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Slug,
    /// The plan whose limits apply.
    pub plan: String,
    /// Whether it is somebody's personal one.
    pub personal: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A workspace of the caller's, with their role in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceMembership {
    /// The workspace.
    #[serde(flatten)]
    pub workspace: Workspace,
    /// The caller's role.
    #[schema(value_type = RoleWord)]
    pub role: Role,
}

impl From<record::Workspace> for Workspace {
    fn from(workspace: record::Workspace) -> Self {
        Self {
            id: workspace.id,
            name: workspace.name,
            plan: workspace.plan,
            personal: workspace.personal_of.is_some(),
            created_at: workspace.created_at,
        }
    }
}
