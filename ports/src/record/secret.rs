use super::{User, Workspace};
use crate::id::{Id, Kind};
use crate::text::VariableName;
use crate::time::Timestamp;

/// The key that a workspace's secrets are sealed with. Its revision counts every change of any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    /// Key.
    pub workspace: Id<Workspace>,
    /// The data key, sealed by the deployment's master key.
    pub sealed: String,
    /// Names that master key, without telling anything about it.
    pub master: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Commits so far; what machines are told as the version of all secrets together.
    pub revision: u64,
}

/// A value that a workspace's sessions get and that nobody reads again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEntry {
    /// Key.
    pub id: Id<SecretEntry>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// Unique in the workspace.
    pub name: VariableName,
    /// The value, sealed by the workspace's data key for this id and revision.
    pub sealed: String,
    /// Bytes of the value.
    pub bytes: u64,
    /// Who set it last.
    pub changed_by: Id<User>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was set last.
    pub changed_at: Timestamp,
    /// Counts its values.
    pub revision: u64,
}

impl Kind for SecretEntry {
    const PREFIX: &'static str = "sec";
    const NOUN: &'static str = "secret";
}
