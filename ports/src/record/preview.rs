use serde::{Deserialize, Serialize};

use super::{Session, Visibility, Workspace};
use crate::id::Id;
use crate::time::Timestamp;

/// Who may look at one port of a session, where somebody said so after the manifest did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSetting {
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The session.
    pub session: Id<Session>,
    /// The port; with workspace and session the key.
    pub port: u16,
    /// Who.
    pub visibility: Visibility,
    /// From when on the manifest's word counts again.
    pub expires_at: Option<Timestamp>,
    /// When it was said.
    pub changed_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}
