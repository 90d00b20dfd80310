use burstflare_ports::id::Id;
use burstflare_ports::machine::Epoch;
use burstflare_ports::record::{self, Goal, SessionState, Sharing};
use burstflare_ports::text::Slug;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::{GoalWord, SessionStateWord, SharingWord};
use super::{Failure, Runtime, Warning};

/// Makes a session and starts it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// Unique in the workspace: 1 to 63 of `a-z 0-9 -`.
    #[schema(value_type = String, example = "sandbox", max_length = 63)]
    pub name: Slug,
    /// Id or name of the template; its current release is taken.
    pub template: String,
    /// Who else may work in it; only the owner unless asked otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SharingWord>)]
    pub sharing: Option<Sharing>,
}

/// Starts a new life of a session's machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartRequest {
    /// Whether to go on with the template's current release instead of the pinned one.
    #[serde(default)]
    pub upgrade: bool,
}

/// A live machine, or one that sleeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its id.
    #[schema(value_type = String, example = "ses_01JD0000000000000000000000")]
    pub id: Id<record::Session>,
    /// Unique in the workspace.
    #[schema(value_type = String, example = "sandbox")]
    pub name: Slug,
    /// Where it is.
    #[schema(value_type = SessionStateWord)]
    pub state: SessionState,
    /// Where it is going.
    #[schema(value_type = GoalWord)]
    pub goal: Goal,
    /// The template.
    #[schema(value_type = String)]
    pub template: Id<record::Template>,
    /// The release it is pinned to.
    #[schema(value_type = String)]
    pub release: Id<record::Release>,
    /// The version of that release.
    #[schema(value_type = String)]
    pub version: Id<record::Version>,
    /// Who made it.
    #[schema(value_type = String)]
    pub owner: Id<record::User>,
    /// Who else may work in it.
    #[schema(value_type = SharingWord)]
    pub sharing: Sharing,
    /// Counts the lives of its machine, from 1.
    pub epoch: Epoch,
    /// The public SSH host key, in OpenSSH's one-line format.
    pub ssh_host_key: String,
    /// The newest complete snapshot.
    #[schema(value_type = Option<String>)]
    pub snapshot: Option<Id<record::Snapshot>>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What its machine runs on.
    pub runtime: Runtime,
    /// What its user should know.
    pub warnings: Vec<Warning>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the state changed last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

impl Session {
    /// The resource of a record, on the runtime that its machine has here.
    #[must_use]
    pub fn new(session: record::Session, runtime: Runtime, warnings: Vec<Warning>) -> Self {
        Self {
            id: session.id,
            name: session.name,
            state: session.state,
            goal: session.goal,
            template: session.template,
            release: session.release,
            version: session.version,
            owner: session.owner,
            sharing: session.sharing,
            epoch: session.epoch,
            ssh_host_key: session.ssh_host_key,
            snapshot: session.snapshot,
            failure: session.failure.map(Failure::from),
            runtime,
            warnings,
            created_at: session.created_at,
            changed_at: session.changed_at,
        }
    }
}
