use burstflare_ports::error::PortResult;
use burstflare_ports::record::{Grant, SignIn, Token};

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    SignIn in "sign_ins", key [id], columns [user, workspace, created_at, revoked_at, revision]
    {
        SIGN_IN = "id = ?";
    }
}

table! {
    Token in "tokens", key [id],
    columns [
        kind, hash, sign_in, user, workspace, name, scopes, created_at, expires_at, revoked_at, revision
    ]
    {
        TOKEN = "id = ? AND user = ?";
        TOKENS = "user = ? AND workspace = ? AND kind = 'personal' AND revoked_at IS NULL AND id < ? \
                  ORDER BY id DESC LIMIT ?";
    }
}

table! {
    Grant in "grants", key [id],
    columns [kind, hash, user, sign_in, workspace, role, created_at, expires_at, spent_at]
    {
        GRANT = "hash = ?";
        INVITES = "workspace = ? AND kind = 'invite' AND spent_at IS NULL AND id < ? ORDER BY id DESC LIMIT ?";
    }
}

/// The token of a hash, its sign-in, its user, its workspace, and the membership where there is one.
pub(crate) const PRINCIPAL: &str = "SELECT \
    t.kind, t.hash, t.sign_in, t.user, t.workspace, t.name, t.scopes, t.created_at, t.expires_at, t.revoked_at, \
    t.revision, t.id, \
    s.user, s.workspace, s.created_at, s.revoked_at, s.revision, s.id, \
    u.email, u.email_verified_at, u.created_at, u.revision, u.id, \
    w.name, w.plan, w.personal_of, w.created_at, w.revision, w.id, \
    m.role, m.created_at, m.revision, m.workspace, m.user \
    FROM tokens t \
    JOIN sign_ins s ON s.id = t.sign_in \
    JOIN users u ON u.id = t.user \
    JOIN workspaces w ON w.id = t.workspace \
    LEFT JOIN memberships m ON m.workspace = t.workspace AND m.user = t.user \
    WHERE t.hash = ?";

/// A row where the grant can be spent at a moment.
pub(crate) const GRANT_UNSPENT: &str =
    "SELECT 1 FROM grants WHERE id = ? AND spent_at IS NULL AND expires_at > ?";
/// Marks a grant as spent.
pub(crate) const GRANT_SPEND: &str = "UPDATE grants SET spent_at = ? WHERE id = ? AND spent_at IS NULL";

/// Removes tokens that expired before a moment, at most so many.
pub(crate) const TOKENS_SWEEP: &str = "DELETE FROM tokens WHERE id IN \
    (SELECT id FROM tokens WHERE expires_at < ? ORDER BY expires_at LIMIT ?)";
/// Removes grants that expired before a moment, at most so many.
pub(crate) const GRANTS_SWEEP: &str = "DELETE FROM grants WHERE id IN \
    (SELECT id FROM grants WHERE expires_at < ? ORDER BY expires_at LIMIT ?)";

pub(super) const ACCESS_STATEMENTS: &[&[&str]] = &[
    SignIn::STATEMENTS,
    Token::STATEMENTS,
    Grant::STATEMENTS,
    &[PRINCIPAL, GRANT_UNSPENT, GRANT_SPEND, TOKENS_SWEEP, GRANTS_SWEEP],
];
