use burstflare_core::domain::manifest::SleepAfter;
use burstflare_core::service;
use burstflare_ports::id::Id;
use burstflare_ports::machine::Epoch;
use burstflare_ports::record::{self, Goal, SessionState, Sharing, StopCause};
use burstflare_ports::text::Slug;
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{Busy, Reason};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::{GoalWord, ReasonWord, SessionStateWord, SharingWord, StopCauseWord};
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

/// Changes a session. What is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSession {
    /// Unique in the workspace: 1 to 63 of `a-z 0-9 -`. The host name inside follows at the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 63)]
    pub name: Option<Slug>,
    /// Who else may work in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SharingWord>)]
    pub sharing: Option<Sharing>,
    /// Idle time before it sleeps, such as `30m`, or `never`; `template` goes back to what its template says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "30m")]
    pub sleep_after: Option<String>,
}

/// How long a running session has been idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Idle {
    /// Its last activity, as its agent judges it; now where something holds it awake.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// What that activity was.
    #[schema(value_type = ReasonWord)]
    pub reason: Reason,
    /// What holds it awake now.
    pub busy: Vec<Awake>,
    /// Idle time before it sleeps, or `never`: its own or its template's, as far as the plan allows.
    #[schema(example = "30m")]
    pub sleep_after: String,
    /// When it sleeps if nothing happens; absent for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sleeps_at: Option<Timestamp>,
}

/// Something that holds a session awake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Awake {
    /// What it is.
    #[schema(value_type = ReasonWord)]
    pub reason: Reason,
    /// How many of them.
    pub count: u32,
}

impl From<service::Idle> for Idle {
    fn from(idle: service::Idle) -> Self {
        let awake = |busy: Busy| Awake { reason: busy.reason, count: busy.count };
        Self {
            since: idle.since,
            reason: idle.reason,
            busy: idle.busy.into_iter().map(awake).collect(),
            sleep_after: sleep_after(idle.limit.map(|limit| limit.as_secs())),
            sleeps_at: idle.sleeps_at,
        }
    }
}

fn sleep_after(seconds: Option<u64>) -> String {
    seconds.map_or(SleepAfter::Never, SleepAfter::Seconds).to_string()
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
    /// The snapshot that its files go back to where the disk is lost.
    #[schema(value_type = Option<String>)]
    pub snapshot: Option<Id<record::Snapshot>>,
    /// The snapshot that its next start restores.
    #[schema(value_type = Option<String>)]
    pub restore: Option<Id<record::Snapshot>>,
    /// The snapshot it was forked from; that one may be gone.
    #[schema(value_type = Option<String>)]
    pub forked_from: Option<Id<record::Snapshot>>,
    /// Whether its disk may hold what no snapshot shows.
    pub unsaved: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Its own idle time before it sleeps, such as `30m`, or `never`; absent: what its template says.
    pub sleep_after: Option<String>,
    /// What put it to sleep; absent while it has a machine that is to go on.
    #[schema(value_type = Option<StopCauseWord>)]
    pub stopped_by: Option<StopCause>,
    /// How idle it is: on the single session, while it runs and its agent answers.
    pub idle: Option<Idle>,
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
            restore: session.restore,
            forked_from: session.forked_from,
            unsaved: session.unsaved,
            failure: session.failure.map(Failure::from),
            sleep_after: session
                .sleep_after_s
                .map(|seconds| sleep_after(Some(seconds).filter(|own| *own > 0))),
            stopped_by: session.stopped_by,
            idle: None,
            runtime,
            warnings,
            created_at: session.created_at,
            changed_at: session.changed_at,
        }
    }
}
