use burstflare_ports::error::PortResult;
use burstflare_ports::record::{Membership, User, Workspace};

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    User in "users", key [id], columns [email, email_verified_at, created_at, revision]
    {
        USER = "id = ?";
        USER_BY_EMAIL = "email = ?";
    }
}

table! {
    Workspace in "workspaces", key [id], columns [name, plan, personal_of, created_at, revision]
    {
        WORKSPACE = "id = ?";
        WORKSPACE_BY_NAME = "name = ?";
        ALL_WORKSPACES = "id > ? ORDER BY id LIMIT ?";
    }
}

table! {
    Membership in "memberships", key [workspace, user], columns [role, created_at, revision]
    {
        MEMBERSHIP = "workspace = ? AND user = ?";
    }
}

/// A membership, then its user.
pub(crate) const MEMBERS: &str = "SELECT m.role, m.created_at, m.revision, m.workspace, m.user, \
    u.email, u.email_verified_at, u.created_at, u.revision, u.id \
    FROM memberships m JOIN users u ON u.id = m.user \
    WHERE m.workspace = ? AND m.user > ? ORDER BY m.user LIMIT ?";

/// A workspace, then the membership in it.
pub(crate) const WORKSPACES_OF: &str = "SELECT w.name, w.plan, w.personal_of, w.created_at, w.revision, w.id, \
    m.role, m.created_at, m.revision, m.workspace, m.user \
    FROM memberships m JOIN workspaces w ON w.id = m.workspace \
    WHERE m.user = ? AND m.workspace < ? ORDER BY m.workspace DESC LIMIT ?";

/// Whether there is any user.
pub(crate) const ANY_USER: &str = "SELECT 1 FROM users LIMIT 1";
/// A row where the address is taken.
pub(crate) const EMAIL_TAKEN: &str = "SELECT 1 FROM users WHERE email = ?";
/// A row where the name is taken.
pub(crate) const WORKSPACE_NAME_TAKEN: &str = "SELECT 1 FROM workspaces WHERE name = ?";

pub(super) const WORKSPACE_STATEMENTS: &[&[&str]] = &[
    User::STATEMENTS,
    Workspace::STATEMENTS,
    Membership::STATEMENTS,
    &[MEMBERS, WORKSPACES_OF, ANY_USER, EMAIL_TAKEN, WORKSPACE_NAME_TAKEN],
];
