//! Death at every point: a child process that keeps records and blobs is killed in front of each of its file system
//! calls in turn (strace counts them and sends the signal), and what it leaves is opened again. A second look at the
//! order of its calls shows what a power cut would leave: nothing is acknowledged before it is flushed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase, SqliteStore};
use burstflare_ports::blob::{BlobKey, Blobs};
use burstflare_ports::id::Id;
use burstflare_ports::record::User;
use burstflare_ports::store::{Accounts, ChangeSet, Family, Guard, Key, Put, Store};
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use bytes::Bytes;
use futures_util::StreamExt;

const FOLDER: &str = "FLARE_KILL_FOLDER";
const WHAT: &str = "FLARE_KILL_WHAT";
const COMMITS: u8 = 4;
/// Calls that change files of records. SQLite writes by position; plain writes only wake other threads here.
const OF_RECORDS: &str = "pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,unlink,rename";
/// Calls that change files of blobs, and those that acknowledge.
const OF_BLOBS: &str = "write,writev,fsync,rename,renameat,mkdir,mkdirat,unlink,unlinkat,rmdir";
/// More calls than these are a child that never ends.
const MOST: usize = 400;

fn user(number: u8) -> User {
    User {
        id: Id::new(Timestamp::from_millis(i64::from(number)), [number; 10]),
        email: format!("u{number}@example.com").parse().expect("an address"),
        email_verified_at: None,
        created_at: Timestamp::from_millis(1),
        revision: 1,
    }
}

/// Two records that belong together.
fn pair(number: u8) -> (User, User) {
    (user(2 * number), user(2 * number + 1))
}

fn key(text: &str) -> BlobKey {
    text.parse().expect("a key")
}

/// What is done to blobs, in order: `None` deletes.
fn deeds() -> Vec<(&'static str, Option<Vec<u8>>)> {
    vec![
        ("a/one", Some(vec![1; 300_000])),
        ("a/two", Some(vec![2; 10])),
        ("a/one", Some(vec![3; 70_000])),
        ("a/two", None),
        ("b", Some(Vec::new())),
    ]
}

fn acknowledge(number: usize) {
    // One call, so that the parent reads whole lines.
    let line = format!("done {number}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
    std::io::stdout().flush().expect("the parent listens");
}

/// The child; without its folder there is nothing to do.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        if std::env::var(WHAT).is_ok_and(|what| what == "blobs") {
            let blobs = FsBlobs::open(folder.join("blobs")).expect("the blobs");
            acknowledge(0);
            for (number, (name, bytes)) in deeds().into_iter().enumerate() {
                match bytes {
                    Some(bytes) => {
                        let body = Body::Full(Bytes::from(bytes));
                        drop(blobs.put(&key(name), body, 1 << 20).await.expect("the put"));
                    }
                    None => blobs.delete(&key(name)).await.expect("the delete"),
                }
                acknowledge(number + 1);
            }
            return;
        }
        let data = DataFolder::open(folder).expect("the folder");
        let database = SqliteDatabase::open(&data, Timestamp::from_millis(1)).await.expect("the database");
        let store = SqliteStore::new(database);
        acknowledge(0);
        for number in 0..COMMITS {
            let (first, second) = pair(number);
            let mut change = ChangeSet::new(Family::Directory);
            for user in [first, second] {
                change.guards.push(Guard::Absent(Key::User(user.id)));
                change.puts.push(Put::User(user));
            }
            store.commit(&change).await.expect("the commit");
            acknowledge(usize::from(number) + 1);
        }
    });
}

#[expect(clippy::print_stderr, reason = "a test says what it skips")]
fn has_strace() -> bool {
    let there = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).status();
    let works = there.is_ok_and(|status| status.success());
    if !works {
        eprintln!("SKIPPED: strace is not there, or may not trace here");
    }
    works
}

/// Runs the child; answers whether it came to its end, and its last acknowledgement.
fn run(folder: &Path, what: &str, options: &[&str]) -> (bool, Option<usize>) {
    let output = Command::new("strace")
        .args(["-f", "-qq"])
        .args(options)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        // The program's own start is of no interest: no more files than it needs.
        .env_remove("LD_LIBRARY_PATH")
        .env(FOLDER, folder)
        .env(WHAT, what)
        .stderr(Stdio::null())
        .output()
        .expect("strace runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let done = text.lines().filter_map(|line| line.rsplit_once("done ")?.1.parse().ok()).max();
    (output.status.success(), done)
}

fn fill(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

async fn database(folder: &Path) -> SqliteDatabase {
    let data = DataFolder::open(folder).expect("the folder");
    SqliteDatabase::open(&data, Timestamp::from_millis(1)).await.expect("what was left can be opened")
}

#[tokio::test]
async fn records_survive_death_at_every_call() {
    if !has_strace() {
        return;
    }
    let begun = tempfile::tempdir().expect("a folder");
    let empty = database(begun.path()).await;
    empty.close().await;
    drop(empty);
    let (mut points, mut counts) = (0, BTreeMap::new());
    for call in 1..MOST {
        let left = tempfile::tempdir().expect("a folder");
        fill(begun.path(), left.path());
        let kill = format!("inject={OF_RECORDS}:signal=KILL:when={call}");
        let (ended, done) = run(left.path(), "records", &["-o", "/dev/null", "-e", &kill]);
        let store = SqliteStore::new(database(left.path()).await);
        let mut there = 0;
        for number in 0..COMMITS {
            let (first, second) = pair(number);
            let first = store.user(first.id).await.expect("a read").is_some();
            assert_eq!(
                first,
                store.user(second.id).await.expect("a read").is_some(),
                "half a commit, call {call}"
            );
            if first {
                assert_eq!(there, number, "call {call}: a commit without the one before");
                there += 1;
            }
        }
        let acknowledged = done.unwrap_or(0);
        let there = usize::from(there);
        assert!(
            (acknowledged..=acknowledged + 1).contains(&there),
            "call {call}: {acknowledged} and {there}"
        );
        *counts.entry(there).or_insert(0) += 1;
        if ended {
            assert_eq!(there, usize::from(COMMITS));
            points = call;
            break;
        }
    }
    println!("{points} points; commits that were there: {counts:?}");
    assert!(points > 20 && counts.len() > 3, "{points} {counts:?}");
}

#[tokio::test]
async fn blobs_survive_death_at_every_call() {
    if !has_strace() {
        return;
    }
    let (mut points, mut counts) = (0, BTreeMap::new());
    for call in 1..MOST {
        let left = tempfile::tempdir().expect("a folder");
        let kill = format!("inject={OF_BLOBS}:signal=KILL:when={call}");
        let (ended, done) = run(left.path(), "blobs", &["-o", "/dev/null", "-e", &kill]);
        let blobs = FsBlobs::open(left.path().join("blobs")).expect("what was left can be opened");
        let done = done.unwrap_or(0);
        let mut found = BTreeMap::new();
        for name in ["a/one", "a/two", "b"] {
            if let Ok((_, stream)) = blobs.get(&key(name), None).await {
                let chunks: Vec<_> = stream.collect().await;
                let bytes = chunks.into_iter().collect::<Result<Vec<_>, _>>().expect("a whole blob").concat();
                found.insert(name, bytes);
            }
        }
        let after = |count: usize| {
            let mut state = BTreeMap::new();
            for (name, bytes) in deeds().into_iter().take(count) {
                match bytes {
                    Some(bytes) => drop(state.insert(name, bytes)),
                    None => drop(state.remove(name)),
                }
            }
            state
        };
        assert!(
            found == after(done) || found == after(done + 1),
            "call {call}: not the state after {done} or the next"
        );
        *counts.entry(done).or_insert(0) += 1;
        let half = std::fs::read_dir(left.path().join("blobs/tmp")).expect("the folder").count();
        assert_eq!(half, 0, "call {call}: what was half written is gone");
        if ended {
            assert_eq!(done, deeds().len());
            points = call;
            break;
        }
    }
    println!("{points} points; deeds that were acknowledged: {counts:?}");
    assert!(points > 20 && counts.len() > 3, "{points} {counts:?}");
}

/// The child's calls in order, each as `name arguments`.
fn calls(what: &str, of: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("calls");
    let room = folder.path().join("room");
    std::fs::create_dir(&room).expect("a folder");
    let trace = format!("trace=write,{of}");
    let (ended, _) = run(&room, what, &["-y", "-s", "64", "-e", &trace, "-o", log.to_str().expect("a path")]);
    assert!(ended);
    let text = std::fs::read_to_string(log).expect("the calls");
    text.lines()
        .map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').to_owned())
        .collect()
}

/// Whether what was written to a file with this mark in its path is flushed in front of every acknowledgement.
#[test]
fn nothing_is_acknowledged_before_it_is_flushed() {
    if !has_strace() {
        return;
    }
    let mut unflushed = false;
    let mut acknowledged = 0;
    for call in calls("records", OF_RECORDS) {
        if call.starts_with("pwrite64(") && call.contains("-wal>") {
            unflushed = true;
        } else if (call.starts_with("fdatasync(") || call.starts_with("fsync(")) && call.contains("-wal>") {
            unflushed = false;
        } else if call.contains("\"done ") {
            assert!(!unflushed, "acknowledged, and the log is not flushed");
            acknowledged += 1;
        }
    }
    assert_eq!(acknowledged, usize::from(COMMITS) + 1);
    // A blob: its bytes are flushed before it gets its name, and its folder before anybody hears of it.
    let (mut bytes_flushed, mut name_flushed, mut acknowledged) = (true, true, 0);
    for call in calls("blobs", OF_BLOBS) {
        if call.starts_with("write(") && call.contains("/tmp/") {
            bytes_flushed = false;
        } else if call.starts_with("fsync(") && call.contains("/blobs/tmp/") {
            bytes_flushed = true;
        } else if call.starts_with("rename(") {
            assert!(bytes_flushed, "named before its bytes are flushed: {call}");
            name_flushed = false;
        } else if (call.starts_with("unlink(") || call.starts_with("unlinkat(")) && call.contains("/data/") {
            name_flushed = false;
        } else if call.starts_with("fsync(") && call.contains("/blobs/data") {
            name_flushed = true;
        } else if call.contains("\"done ") {
            assert!(bytes_flushed && name_flushed, "acknowledged before it is flushed");
            acknowledged += 1;
        }
    }
    assert_eq!(acknowledged, deeds().len() + 1);
}
