use std::sync::Arc;
use std::time::Duration;

use burstflare_adapters_local::sqlite::{DataFolder, SqliteStore};
use burstflare_migrations::{BatchError, Database, Statement, Value};
use burstflare_ports::error::ErrorKind;
use burstflare_ports::id::Id;
use burstflare_ports::record::User;
use burstflare_ports::store::{Accounts, ChangeSet, Family, Guard, Key, Put, Store};
use burstflare_ports::time::Timestamp;

use super::{open, place};

fn user(number: u8) -> User {
    User {
        id: Id::new(Timestamp::from_millis(i64::from(number)), [number; 10]),
        email: format!("u{number}@example.com").parse().expect("an address"),
        email_verified_at: None,
        created_at: Timestamp::from_millis(1),
        revision: 1,
    }
}

fn insert(user: &User) -> ChangeSet {
    let mut change = ChangeSet::new(Family::Directory);
    change.guards.push(Guard::Absent(Key::User(user.id)));
    change.puts.push(Put::User(user.clone()));
    change
}

#[tokio::test]
async fn what_was_committed_is_there_behind_a_drop_without_goodbye() {
    let place = place().await;
    let store = SqliteStore::new(place.database.clone());
    for number in 0..20 {
        store.commit(&insert(&user(number))).await.expect("the commit");
    }
    // The files as they are at this moment: what a killed process leaves.
    let left = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(place.folder.path()).expect("the folder") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "lock" {
            std::fs::copy(entry.path(), left.path().join(entry.file_name())).expect("a copy");
        }
    }
    let store = SqliteStore::new(open(&left).await);
    for number in 0..20 {
        let wanted = user(number);
        assert_eq!(store.user(wanted.id).await.expect("a read"), Some(wanted));
    }
}

#[tokio::test]
async fn a_commit_that_is_given_up_midway_is_whole_or_nothing_and_blocks_nobody() {
    let place = place().await;
    let store = SqliteStore::new(place.database.clone());
    for number in 0..60 {
        let (first, second) = (user(2 * number), user(2 * number + 1));
        let mut change = insert(&first);
        change.guards.push(Guard::Absent(Key::User(second.id)));
        change.puts.push(Put::User(second.clone()));
        // Cut off ever later: somewhere between the first statement and behind the last.
        let patience = Duration::from_micros(40 * u64::from(number));
        let _ = tokio::time::timeout(patience, store.commit(&change)).await;
        // Behind the next write nothing of it is under way any more.
        let nothing = Statement::new("DELETE FROM counters WHERE workspace = ''", Vec::new());
        place.database.write("test.settle", vec![nothing]).await.expect("the writer is free");
        let found = (
            store.user(first.id).await.expect("a read").is_some(),
            store.user(second.id).await.expect("a read").is_some(),
        );
        assert_eq!(found.0, found.1, "half of change {number} is there");
    }
    store.commit(&insert(&user(200))).await.expect("the writer is free");
}

#[tokio::test]
async fn a_broken_batch_leaves_nothing() {
    let place = place().await;
    let put = |id: &str| {
        Statement::new(
            "INSERT INTO counters (workspace, name, subject, value) VALUES (?, 'n', '', ?)",
            vec![Value::Text(id.to_owned()), Value::Int(if id == "bad" { -1 } else { 1 })],
        )
    };
    let answer = place.database.batch(vec![put("good"), put("bad")]).await;
    assert!(matches!(answer, Err(BatchError::Constraint { name }) if name == "counters_value"));
    let rows = place.database.query(Statement::new("SELECT 1 FROM counters", Vec::new())).await;
    assert_eq!(rows.expect("a read").len(), 0);
}

#[tokio::test]
async fn of_many_that_come_at_once_each_is_done_or_refused_by_itself() {
    let place = place().await;
    let put = |number: i64, value: i64| {
        Statement::new(
            "INSERT INTO counters (workspace, name, subject, value) VALUES (?, 'n', '', ?)",
            vec![Value::Text(number.to_string()), Value::Int(value)],
        )
    };
    // Every third breaks a constraint behind a statement that would have held; every fourth is not SQL at all.
    let work = (0..200_i64).map(|number| {
        let database = place.database.clone();
        let mut statements = vec![put(number, 1)];
        if number % 3 == 0 {
            statements.push(put(-number - 1, -1));
        } else if number % 4 == 0 {
            statements.push(Statement::new("NO SQL", Vec::new()));
        }
        async move { (number, database.batch(statements).await) }
    });
    for (number, outcome) in futures_util::future::join_all(work).await {
        match outcome {
            Err(BatchError::Constraint { name }) => assert!(number % 3 == 0 && name == "counters_value"),
            Err(BatchError::Failed(_)) => assert!(number % 3 != 0 && number % 4 == 0, "{number}"),
            Ok(_) => assert!(number % 3 != 0 && number % 4 != 0, "{number}"),
        }
    }
    let rows = place.database.query(Statement::new("SELECT workspace FROM counters", Vec::new())).await;
    let mut found: Vec<i64> = rows
        .expect("a read")
        .iter()
        .map(|row| match &row.0[0] {
            Value::Text(text) => text.parse().expect("a number"),
            other => panic!("{other:?}"),
        })
        .collect();
    found.sort_unstable();
    let wanted: Vec<i64> = (0..200).filter(|number| number % 3 != 0 && number % 4 != 0).collect();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn a_folder_is_used_once_and_says_by_whom() {
    let place = place().await;
    let error = DataFolder::open(place.folder.path()).expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    place.database.close().await;
    drop(place.database);
    let _again = DataFolder::open(place.folder.path()).expect("it is free");
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = place().await;
    let store = SqliteStore::new(place.database.clone());
    store.commit(&insert(&user(1))).await.expect("the commit");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(place.folder.path()), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(place.folder.path()).expect("the folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 4, "the lock and SQLite's three");
}

#[tokio::test]
async fn behind_close_everything_is_unavailable() {
    let place = place().await;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::new(place.database.clone()));
    place.database.close().await;
    assert_eq!(store.ping().await.expect_err("closed").kind(), ErrorKind::Unavailable);
    assert!(store.commit(&insert(&user(1))).await.is_err());
}

#[tokio::test]
async fn the_writer_flushes_each_commit_and_checks_references() {
    let place = place().await;
    for (pragma, wanted) in [
        ("PRAGMA synchronous", Value::Int(2)),
        ("PRAGMA foreign_keys", Value::Int(1)),
        ("PRAGMA journal_mode", Value::Text("wal".to_owned())),
    ] {
        let rows =
            place.database.write_returning(Statement::new(pragma, Vec::new())).await.expect("a pragma");
        assert_eq!(rows[0].0, [wanted], "{pragma}");
    }
    let write = Statement::new("DELETE FROM counters", Vec::new());
    assert!(place.database.query(write).await.is_err(), "readers cannot write");
}
