use burstflare_ports::id::Id;
use burstflare_ports::record;
use burstflare_ports::text::Slug;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTemplate {
    /// Unique in the workspace: 1 to 63 of `a-z 0-9 -`.
    #[schema(value_type = String, example = "node-dev", max_length = 63)]
    pub name: Slug,
}

/// What sessions are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// Its id.
    #[schema(value_type = String, example = "tpl_01JD0000000000000000000000")]
    pub id: Id<record::Template>,
    /// Unique in the workspace.
    #[schema(value_type = String, example = "node-dev")]
    pub name: Slug,
    /// The release that new sessions get.
    #[schema(value_type = Option<String>)]
    pub current_release: Option<Id<record::Release>>,
    /// The version of that release; absent from lists.
    #[schema(value_type = Option<String>)]
    pub current_version: Option<Id<record::Version>>,
    /// When it was put away.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<record::Template> for Template {
    /// Without the current version: whoever read the current release adds it.
    fn from(template: record::Template) -> Self {
        Self {
            id: template.id,
            name: template.name,
            current_release: template.current_release,
            current_version: None,
            archived_at: template.archived_at,
            created_at: template.created_at,
        }
    }
}
