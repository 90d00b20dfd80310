use burstflare_ports::id::Id;
use burstflare_ports::record::{self, ReleaseCause};
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::ReleaseCauseWord;

/// Makes a version the template's current release.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// Id or label of the version.
    pub version: String,
}

/// One entry of the history of what was current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    /// Its id.
    #[schema(value_type = String, example = "rel_01JD0000000000000000000000")]
    pub id: Id<record::Release>,
    /// The template.
    #[schema(value_type = String)]
    pub template: Id<record::Template>,
    /// The version that became current.
    #[schema(value_type = String)]
    pub version: Id<record::Version>,
    /// Counts the template's releases, from 1.
    pub number: u64,
    /// Why it is there.
    #[schema(value_type = ReleaseCauseWord)]
    pub cause: ReleaseCause,
    /// What a rollback from here activates again.
    #[schema(value_type = Option<String>)]
    pub previous: Option<Id<record::Release>>,
    /// Who did it.
    #[schema(value_type = String)]
    pub created_by: Id<record::User>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<record::Release> for Release {
    fn from(release: record::Release) -> Self {
        Self {
            id: release.id,
            template: release.template,
            version: release.version,
            number: release.number,
            cause: release.cause,
            previous: release.previous,
            created_by: release.created_by,
            created_at: release.created_at,
        }
    }
}
