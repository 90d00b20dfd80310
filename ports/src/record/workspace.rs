use serde::{Deserialize, Serialize};

use crate::id::{Id, Kind};
use crate::text::{Email, Slug};
use crate::time::Timestamp;

/// A person's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Key.
    pub id: Id<User>,
    /// Unique in the deployment.
    pub email: Email,
    /// When the address was proven; an unproven one confers nothing.
    pub email_verified_at: Option<Timestamp>,
    /// When the account was made.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Key.
    pub id: Id<Workspace>,
    /// Unique in the deployment.
    pub name: Slug,
    /// Name of the plan whose limits apply.
    pub plan: String,
    /// Whose personal workspace it is, if anybody's.
    pub personal_of: Option<Id<User>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

/// What a member may do; the table of permissions is core's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Works on what is theirs or shared.
    Member,
    /// Manages templates, members and secrets.
    Admin,
    /// Everything, the workspace itself included.
    Owner,
}

/// A user's place in a workspace. Key: workspace and user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The user.
    pub user: Id<User>,
    /// The role.
    pub role: Role,
    /// When they joined.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

impl Kind for User {
    const PREFIX: &'static str = "usr";
    const NOUN: &'static str = "user";
}

impl Kind for Workspace {
    const PREFIX: &'static str = "ws";
    const NOUN: &'static str = "workspace";
}
