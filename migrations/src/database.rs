use std::borrow::Cow;

use async_trait::async_trait;
use burstflare_ports::error::{PortError, PortResult};

/// A value that a database keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number, within what a JavaScript number keeps exactly.
    Int(i64),
    /// A text.
    Text(String),
}

/// A statement and what stands for its question marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text: one of this crate's, never made of input.
    pub sql: Cow<'static, str>,
    /// In the order of the parameters' numbers.
    pub params: Vec<Value>,
}

impl Statement {
    /// A statement.
    #[must_use]
    pub fn new(sql: impl Into<Cow<'static, str>>, params: Vec<Value>) -> Self {
        Self { sql: sql.into(), params }
    }
}

/// A row: its columns **by position**, since joins repeat names. On D1 that is what `raw()` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<Value>);

/// Why a batch changed nothing.
#[derive(Debug)]
pub enum BatchError {
    /// A constraint was broken and everything rolled back.
    Constraint {
        /// As [`broken_constraint`] reads it: the name of a CHECK, the columns of a UNIQUE, or empty.
        name: String,
    },
    /// Anything else.
    Failed(PortError),
}

/// A database that speaks SQLite's dialect.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// Runs one statement that reads.
    ///
    /// # Errors
    /// What the database answers.
    async fn query(&self, statement: Statement) -> PortResult<Vec<Row>>;

    /// Runs statements in order, all of them or none; when it answers, they are on stable storage. The answer is the number
    /// of rows they changed.
    ///
    /// # Errors
    /// [`BatchError`]; nothing was changed then.
    async fn batch(&self, statements: Vec<Statement>) -> Result<u64, BatchError>;
}

/// Reads which constraint broke from SQLite's message, also where D1 wraps it: the CHECK's name, the columns of the
/// UNIQUE, empty for a foreign key. `None` where the message is about something else.
#[must_use]
pub fn broken_constraint(message: &str) -> Option<String> {
    let (_, rest) = message.split_once(" constraint failed")?;
    let name = rest.strip_prefix(": ").unwrap_or_default();
    // D1 appends `: SQLITE_CONSTRAINT` and more.
    let name = name.split(": ").next().unwrap_or_default().trim();
    Some(if name.starts_with("SQLITE_") { String::new() } else { name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broken_constraint_is_read_from_both_databases() {
        for (message, name) in [
            ("CHECK constraint failed: guard_3", Some("guard_3")),
            ("D1_ERROR: CHECK constraint failed: guard_13: SQLITE_CONSTRAINT", Some("guard_13")),
            (
                "D1_ERROR: CHECK constraint failed: guard_1: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_CHECK)",
                Some("guard_1"),
            ),
            (
                "UNIQUE constraint failed: templates.workspace, templates.id",
                Some("templates.workspace, templates.id"),
            ),
            ("FOREIGN KEY constraint failed", Some("")),
            ("D1_ERROR: FOREIGN KEY constraint failed: SQLITE_CONSTRAINT", Some("")),
            ("database is locked", None),
        ] {
            assert_eq!(broken_constraint(message).as_deref(), name, "{message}");
        }
    }
}
