use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{AuditEntry, Event, StoredAudit, StoredEvent, Workspace};

use crate::column::{Column, Reader};
use crate::database::Value;

/// Appends an event.
pub(crate) const EVENT_APPEND: &str =
    "INSERT INTO events (workspace, kind, subject, data, at) VALUES (?, ?, ?, ?, ?)";
/// Events behind a number, oldest first.
pub(crate) const EVENTS: &str = "SELECT seq, kind, subject, data, at FROM events \
    WHERE workspace = ? AND seq > ? ORDER BY seq LIMIT ?";
/// The newest number.
pub(crate) const LAST_EVENT: &str = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE workspace = ?";

/// Appends a line about workspace data.
pub(crate) const AUDIT_APPEND: &str = "INSERT INTO audit (workspace, at, actor, origin, action, target, detail) \
    VALUES (?, ?, ?, ?, ?, ?, ?)";
/// Appends a line about the directory.
pub(crate) const DIRECTORY_AUDIT_APPEND: &str = "INSERT INTO directory_audit (workspace, at, actor, origin, action, target, detail) \
    VALUES (?, ?, ?, ?, ?, ?, ?)";
/// Lines before a number, newest first.
pub(crate) const AUDIT: &str = "SELECT seq, at, actor, origin, action, target, detail FROM audit \
    WHERE workspace = ? AND seq < ? ORDER BY seq DESC LIMIT ?";

pub(super) const JOURNAL_STATEMENTS: &[&[&str]] =
    &[&[EVENT_APPEND, EVENTS, LAST_EVENT, AUDIT_APPEND, DIRECTORY_AUDIT_APPEND, AUDIT]];

/// The parameters of [`EVENT_APPEND`].
pub(crate) fn event_values(workspace: Id<Workspace>, event: &Event) -> PortResult<Vec<Value>> {
    Ok(vec![
        workspace.encode()?,
        event.kind.encode()?,
        event.subject.encode()?,
        event.data.encode()?,
        event.at.encode()?,
    ])
}

/// A row of [`EVENTS`].
pub(crate) fn read_event(row: &mut Reader) -> PortResult<StoredEvent> {
    Ok(StoredEvent {
        seq: row.next("events.seq")?,
        event: Event {
            kind: row.next("events.kind")?,
            subject: row.next("events.subject")?,
            data: row.next("events.data")?,
            at: row.next("events.at")?,
        },
    })
}

/// The parameters of both audit statements.
pub(crate) fn audit_values(workspace: Option<Id<Workspace>>, entry: &AuditEntry) -> PortResult<Vec<Value>> {
    Ok(vec![
        workspace.encode()?,
        entry.at.encode()?,
        entry.actor.encode()?,
        entry.origin.encode()?,
        entry.action.encode()?,
        entry.target.encode()?,
        entry.detail.encode()?,
    ])
}

/// A row of [`AUDIT`].
pub(crate) fn read_audit(row: &mut Reader) -> PortResult<StoredAudit> {
    Ok(StoredAudit {
        seq: row.next("audit.seq")?,
        entry: AuditEntry {
            at: row.next("audit.at")?,
            actor: row.next("audit.actor")?,
            origin: row.next("audit.origin")?,
            action: row.next("audit.action")?,
            target: row.next("audit.target")?,
            detail: row.next("audit.detail")?,
        },
    })
}
