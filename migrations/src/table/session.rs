use burstflare_ports::error::PortResult;
use burstflare_ports::record::{Session, Ticket};

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    Session in "sessions", key [workspace, id],
    columns [
        name, template, release, version, owner, sharing, state, goal, epoch, keys, ssh_host_key, force, snapshot,
        restore, lineage, forked_from, disk, saved_at, unsaved, deadline, failure, sleep_after_s, stopped_by,
        wanted_at, created_at, changed_at, revision
    ]
    {
        SESSION = "workspace = ? AND id = ?";
        SESSION_BY_NAME = "workspace = ? AND name = ?";
        SESSION_OF_HOST = "id = ?";
        SESSIONS = "workspace = ? AND id < ? ORDER BY id DESC LIMIT ?";
        /// The condition is the index's, word by word: that is how SQLite knows that it may use it.
        RESTLESS_SESSIONS = "(state NOT IN ('created', 'sleeping', 'failed') OR goal <> 'sleep') \
            AND id > ? ORDER BY id LIMIT ?";
    }
}

table! {
    Ticket in "tickets", key [workspace, id],
    columns [
        session, user, token, sign_in, purpose, epoch, ssh_key, port, hash, created_at, expires_at, spent_at
    ]
    {
        TICKET = "hash = ?";
    }
}

/// A row where the name is taken.
pub(crate) const SESSION_NAME_TAKEN: &str = "SELECT 1 FROM sessions WHERE workspace = ? AND name = ?";
/// A row where the ticket can be spent at a moment.
pub(crate) const TICKET_UNSPENT: &str =
    "SELECT 1 FROM tickets WHERE workspace = ? AND id = ? AND spent_at IS NULL AND expires_at > ?";
/// Marks a ticket as spent.
pub(crate) const TICKET_SPEND: &str =
    "UPDATE tickets SET spent_at = ? WHERE workspace = ? AND id = ? AND spent_at IS NULL";
/// Removes tickets that expired before a moment, at most so many.
pub(crate) const TICKETS_SWEEP: &str = "DELETE FROM tickets WHERE (workspace, id) IN \
    (SELECT workspace, id FROM tickets WHERE expires_at < ? ORDER BY expires_at LIMIT ?)";

pub(super) const SESSION_STATEMENTS: &[&[&str]] = &[
    Session::STATEMENTS,
    Ticket::STATEMENTS,
    &[SESSION_NAME_TAKEN, TICKET_UNSPENT, TICKET_SPEND, TICKETS_SWEEP],
];
