//! Records in one SQLite file.

mod database;
mod folder;
mod writer;

pub use database::SqliteDatabase;
pub use folder::DataFolder;

/// The store of one machine.
pub type SqliteStore = burstflare_migrations::SqlStore<SqliteDatabase>;
