use burstflare_ports::error::PortResult;
use burstflare_ports::record::StoredEffect;

use crate::column::Reader;

/// Appends an effect of workspace data.
pub(crate) const OUTBOX_APPEND: &str = "INSERT INTO outbox (workspace, effect, due_at) VALUES (?, ?, ?)";
/// Appends an effect of the directory.
pub(crate) const DIRECTORY_OUTBOX_APPEND: &str =
    "INSERT INTO directory_outbox (effect, due_at) VALUES (?, ?)";

/// Effects of a workspace that are due, longest due first.
pub(crate) const OUTBOX_DUE_OF: &str = "SELECT seq, workspace, effect, attempts, due_at FROM outbox \
    WHERE workspace = ? AND due_at <= ? ORDER BY due_at, seq LIMIT ?";
/// Effects of both outboxes that are due, longest due first.
pub(crate) const OUTBOX_DUE: &str = "SELECT seq, workspace, effect, attempts, due_at FROM outbox WHERE due_at <= ?1 \
    UNION ALL SELECT seq, NULL, effect, attempts, due_at FROM directory_outbox WHERE due_at <= ?1 \
    ORDER BY 5, 1 LIMIT ?2";

/// Forgets a delivered effect.
pub(crate) const OUTBOX_SETTLE: &str = "DELETE FROM outbox WHERE seq = ? AND workspace = ?";
/// The same for the directory.
pub(crate) const DIRECTORY_OUTBOX_SETTLE: &str = "DELETE FROM directory_outbox WHERE seq = ?";
/// Counts an attempt and sets the next moment.
pub(crate) const OUTBOX_POSTPONE: &str =
    "UPDATE outbox SET attempts = attempts + 1, due_at = ? WHERE seq = ? AND workspace = ?";
/// The same for the directory.
pub(crate) const DIRECTORY_OUTBOX_POSTPONE: &str =
    "UPDATE directory_outbox SET attempts = attempts + 1, due_at = ? WHERE seq = ?";

/// A row where the effect waits.
pub(crate) const OUTBOX_WAITING: &str = "SELECT 1 FROM outbox WHERE workspace = ? AND effect = ? LIMIT 1";
/// How many wait in all. It counts two tables that are short while deliveries work.
pub(crate) const OUTBOX_BACKLOG: &str =
    "SELECT (SELECT COUNT(*) FROM outbox) + (SELECT COUNT(*) FROM directory_outbox)";

pub(super) const OUTBOX_STATEMENTS: &[&[&str]] = &[&[
    OUTBOX_APPEND,
    DIRECTORY_OUTBOX_APPEND,
    OUTBOX_DUE_OF,
    OUTBOX_DUE,
    OUTBOX_SETTLE,
    DIRECTORY_OUTBOX_SETTLE,
    OUTBOX_POSTPONE,
    DIRECTORY_OUTBOX_POSTPONE,
    OUTBOX_WAITING,
    OUTBOX_BACKLOG,
]];

/// A row of the due effects.
pub(crate) fn read_effect(row: &mut Reader) -> PortResult<StoredEffect> {
    Ok(StoredEffect {
        seq: row.next("outbox.seq")?,
        workspace: row.next("outbox.workspace")?,
        effect: row.next("outbox.effect")?,
        attempts: row.next("outbox.attempts")?,
        due_at: row.next("outbox.due_at")?,
    })
}
