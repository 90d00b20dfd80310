/// Changes a counter. The parameter is there twice, because a row that exists adds the signed number and a new one begins
/// at no less than zero.
pub(crate) const COUNTER_BUMP: &str = "INSERT INTO counters (workspace, name, subject, value) \
    VALUES (?1, ?2, ?3, MAX(0, ?4)) \
    ON CONFLICT (workspace, name, subject) DO UPDATE SET value = MAX(0, value + ?4)";

/// A row where the counter can take so much more: workspace, name, subject, by, limit. One that was never changed is zero.
pub(crate) const COUNTER_BELOW: &str = "SELECT 1 WHERE \
    COALESCE((SELECT value FROM counters WHERE workspace = ? AND name = ? AND subject = ?), 0) + ? <= ?";

/// Forgets the counter below a subject that goes.
pub(crate) const COUNTER_DELETE: &str =
    "DELETE FROM counters WHERE workspace = ? AND name = ? AND subject = ?";

pub(super) const COUNTER_STATEMENTS: &[&[&str]] = &[&[COUNTER_BUMP, COUNTER_BELOW, COUNTER_DELETE]];
