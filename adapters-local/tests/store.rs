//! The ports of one machine: the conformance suite, and what only a machine can show.
#![expect(clippy::expect_used, reason = "a test says what it relies on")]

#[path = "store/actors.rs"]
mod actors;
#[path = "store/blobs.rs"]
mod blobs;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/fault.rs"]
mod fault;
#[path = "store/hints.rs"]
mod hints;
#[path = "store/kill.rs"]
mod kill;
#[path = "store/model.rs"]
mod model;
#[path = "store/plans.rs"]
mod plans;
#[path = "store/queue.rs"]
mod queue;
#[path = "store/queue_faults.rs"]
mod queue_faults;
#[path = "store/rates.rs"]
mod rates;
#[path = "store/schema.rs"]
mod schema;
#[path = "store/sqlite.rs"]
mod sqlite;
#[path = "store/workflow.rs"]
mod workflow;

use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase};
use burstflare_ports::time::Timestamp;
use tempfile::TempDir;

/// A database in a folder that vanishes with the value.
struct Place {
    database: SqliteDatabase,
    folder: TempDir,
}

async fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(&folder).await;
    Place { database, folder }
}

async fn open(folder: &TempDir) -> SqliteDatabase {
    let data = DataFolder::open(folder.path()).expect("the folder");
    SqliteDatabase::open(&data, Timestamp::from_millis(1)).await.expect("the database")
}
