//! The schema of BurstFlare's records and the one place where its SQL is written.
//!
//! SQLite and D1 speak the same dialect, so everything between the ports and a database lives here: the
//! migrations ([`schema`]), every statement with the rows it reads ([`table`]), and [`SqlStore`], which turns a change into
//! one atomic batch and a question into one indexed query. What is left for an adapter is [`Database`]:
//! run a statement, run a list of them atomically.
//!
//! To add a migration: write `sql/NNNN_subject.sql` (one concern, no triggers, statements ending in `;` and a
//! line break), name it in [`schema`], and let the test of the schema write `schema.sql` anew.
#![forbid(unsafe_code)]

mod apply;
mod column;
mod database;
pub mod local;
pub mod schema;
mod store;
pub mod table;

pub use apply::apply;
pub use database::{BatchError, Database, Row, Statement, Value, broken_constraint};
pub use store::SqlStore;
