//! Who may do what: one table, read cell by cell.

use burstflare_ports::record::{Role, Scope};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// See templates, versions, builds, releases, sessions, snapshots, events, members.
    Read,
    /// Make, upload, promote, roll back, archive templates; retry and cancel builds.
    TemplateManage,
    /// Make sessions.
    SessionCreate,
    /// Start, stop and restart a session.
    SessionControl,
    /// Delete a session or change its settings.
    SessionManage,
    /// Get into a session: SSH, exec.
    SessionAttach,
    /// Make, see and revoke one's own personal tokens.
    TokenManage,
    /// Read the audit log.
    AuditRead,
    /// Invite, change and remove members.
    MemberManage,
    /// Set, list and delete secrets.
    SecretManage,
    /// Change or delete the workspace.
    WorkspaceManage,
}

impl Action {
    /// All actions, for tests and documents.
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::TemplateManage,
        Self::SessionCreate,
        Self::SessionControl,
        Self::SessionManage,
        Self::SessionAttach,
        Self::TokenManage,
        Self::AuditRead,
        Self::MemberManage,
        Self::SecretManage,
        Self::WorkspaceManage,
    ];

    /// The scope a personal token needs for it.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::Read | Self::AuditRead => Scope::Read,
            Self::SessionAttach => Scope::Attach,
            _ => Scope::Write,
        }
    }
}

/// How far an allowance reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Not at all.
    Never,
    /// What is the caller's own.
    Own,
    /// What is the caller's own or shared with the workspace.
    Shared,
    /// Everything in the workspace.
    Any,
}

/// How the caller stands to the thing in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// It is theirs, or it is nobody's in particular.
    Own,
    /// It is somebody else's, and shared.
    Shared,
    /// It is somebody else's, and private.
    Foreign,
}

/// The table: a row an action, a column a role (viewer, member, admin, owner).
const TABLE: [(Action, [Reach; 4]); 11] = {
    use Reach::{Any, Never, Own, Shared};
    [
        (Action::Read, [Any, Any, Any, Any]),
        (Action::TemplateManage, [Never, Never, Any, Any]),
        (Action::SessionCreate, [Never, Any, Any, Any]),
        (Action::SessionControl, [Never, Shared, Any, Any]),
        (Action::SessionManage, [Never, Own, Any, Any]),
        // Nobody gets into somebody's private machine, whatever their role.
        (Action::SessionAttach, [Never, Shared, Shared, Shared]),
        (Action::TokenManage, [Own, Own, Own, Own]),
        (Action::AuditRead, [Never, Never, Any, Any]),
        (Action::MemberManage, [Never, Never, Any, Any]),
        (Action::SecretManage, [Never, Never, Any, Any]),
        (Action::WorkspaceManage, [Never, Never, Never, Any]),
    ]
};

/// The cell of the table.
#[must_use]
pub fn reach(role: Role, action: Action) -> Reach {
    let column = match role {
        Role::Viewer => 0,
        Role::Member => 1,
        Role::Admin => 2,
        Role::Owner => 3,
    };
    TABLE.iter().find(|(row, _)| *row == action).map_or(Reach::Never, |(_, cells)| cells[column])
}

/// Whether a role may do it to something it stands in this relation to.
#[must_use]
pub fn allows(role: Role, action: Action, relation: Relation) -> bool {
    match reach(role, action) {
        Reach::Never => false,
        Reach::Own => relation == Relation::Own,
        Reach::Shared => relation != Relation::Foreign,
        Reach::Any => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 4] = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];

    #[test]
    fn every_action_has_a_row() {
        for (index, action) in Action::ALL.iter().enumerate() {
            assert_eq!(TABLE[index].0, *action);
        }
    }

    #[test]
    fn viewers_only_read_and_keep_their_own_tokens() {
        for action in Action::ALL {
            let allowed = allows(Role::Viewer, action, Relation::Own);
            assert_eq!(allowed, matches!(action, Action::Read | Action::TokenManage), "{action:?}");
        }
    }

    #[test]
    fn a_private_session_is_entered_by_its_owner_alone() {
        for role in ROLES {
            assert!(!allows(role, Action::SessionAttach, Relation::Foreign), "{role:?}");
        }
        assert!(allows(Role::Member, Action::SessionAttach, Relation::Shared));
        assert!(!allows(Role::Member, Action::SessionControl, Relation::Foreign));
        assert!(!allows(Role::Member, Action::SessionManage, Relation::Shared));
    }

    #[test]
    fn a_higher_role_never_may_less() {
        for action in Action::ALL {
            for relation in [Relation::Own, Relation::Shared, Relation::Foreign] {
                for pair in ROLES.windows(2) {
                    assert!(
                        !allows(pair[0], action, relation) || allows(pair[1], action, relation),
                        "{action:?} {relation:?} {pair:?}"
                    );
                }
            }
        }
    }
}
