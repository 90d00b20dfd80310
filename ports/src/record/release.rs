use serde::{Deserialize, Serialize};

use super::{Template, User, Version, Workspace};
use crate::id::{Id, Kind};
use crate::time::Timestamp;

/// Why a release is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseCause {
    /// A version was promoted.
    Promote,
    /// The release before was activated again.
    Rollback,
}

/// One entry of a template's append-only history of what was current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Key.
    pub id: Id<Release>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The template.
    pub template: Id<Template>,
    /// The version that became current.
    pub version: Id<Version>,
    /// Counts the template's releases, from 1.
    pub number: u64,
    /// Why.
    pub cause: ReleaseCause,
    /// What a rollback from here activates again: the release before in the promoted line.
    pub previous: Option<Id<Release>>,
    /// Who did it.
    pub created_by: Id<User>,
    /// When.
    pub created_at: Timestamp,
}

impl Kind for Release {
    const PREFIX: &'static str = "rel";
    const NOUN: &'static str = "release";
}
