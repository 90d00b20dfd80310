use std::path::PathBuf;

use burstflare_migrations::{Database, Statement, Value, apply, schema};
use burstflare_ports::error::ErrorKind;
use burstflare_ports::time::Timestamp;

use super::place;

/// The schema that all migrations together make is kept as a file, so that a change of it is seen.
#[tokio::test]
async fn the_schema_is_the_one_that_is_written_down() {
    let place = place().await;
    let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY tbl_name, type DESC, name";
    let mut text =
        String::from("-- Written by the test of the schema (UPDATE_GOLDEN=1): what all migrations make.\n");
    for row in place.database.query(Statement::new(sql, Vec::new())).await.expect("the schema") {
        if let Some(Value::Text(sql)) = row.0.first() {
            text.push('\n');
            text.push_str(sql);
            text.push_str(";\n");
        }
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations/schema.sql");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).expect("the file");
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(golden == text, "the schema differs from migrations/schema.sql; UPDATE_GOLDEN=1 writes it anew");
}

#[tokio::test]
async fn migrations_are_applied_once() {
    let place = place().await;
    let again = apply(&place.database, &[schema::SHARED, schema::LOCAL], Timestamp::from_millis(2)).await;
    assert!(again.expect("nothing to do").is_empty());
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let place = place().await;
    let known = &schema::SHARED[..schema::SHARED.len() - 1];
    let error = apply(&place.database, &[known, schema::LOCAL], Timestamp::from_millis(2)).await;
    let error = error.expect_err("it is newer");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let newest = schema::SHARED.last().expect("one").name;
    assert!(error.to_string().contains(newest), "{error}");
}
