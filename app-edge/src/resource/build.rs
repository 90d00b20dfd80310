use burstflare_ports::id::Id;
use burstflare_ports::record::{self, BuildState};
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Failure;
use super::schema::BuildStateWord;

/// The making of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Build {
    /// Its id.
    #[schema(value_type = String, example = "bld_01JD0000000000000000000000")]
    pub id: Id<record::Build>,
    /// The template.
    #[schema(value_type = String)]
    pub template: Id<record::Template>,
    /// The version it makes.
    #[schema(value_type = String)]
    pub version: Id<record::Version>,
    /// Where it is.
    #[schema(value_type = BuildStateWord)]
    pub state: BuildState,
    /// The step that runs or ran last.
    pub step: Option<String>,
    /// How many steps there are.
    pub steps: u32,
    /// Attempts begun, from 1; each has its own log.
    pub attempt: u32,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the first attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

impl From<record::Build> for Build {
    fn from(build: record::Build) -> Self {
        Self {
            id: build.id,
            template: build.template,
            version: build.version,
            state: build.state,
            step: build.step,
            steps: build.steps,
            attempt: build.attempt,
            failure: build.failure.map(Failure::from),
            created_at: build.created_at,
            started_at: build.started_at,
            finished_at: build.finished_at,
        }
    }
}
