//! The stand-in: accounts, D1 (on a real SQLite), KV, R2, Queues, Workers with secrets, zones and DNS, in pages of two.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Column, Connection, Either, Row, TypeInfo, ValueRef};

pub(super) const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";
pub(super) const TOKEN: &str = "a-token-that-stays-secret-0123456789abcd";
const PAGE: usize = 2;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// This status, nothing done, and `Retry-After`.
    Status(u16, Option<u32>),
    /// The connection ends before anything was done.
    CutBefore,
    /// It was done, and the connection ends.
    CutAfter,
    /// Nothing was done, and nothing is answered.
    HangBefore,
    /// It was done, and nothing is answered.
    HangAfter,
}

/// What the account holds.
#[derive(Default)]
pub(super) struct Account {
    pub(super) databases: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) buckets: Vec<String>,
    pub(super) queues: Vec<String>,
    pub(super) workers: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) records: Vec<String>,
    /// Paths with this in them are not for this token.
    pub(super) denied: Vec<&'static str>,
    /// Every call that changed, or would change, something.
    pub(super) writes: Vec<String>,
    /// Method and beginning of the path behind the account's, how often, what.
    faults: Vec<(String, u32, Fault)>,
    hung: usize,
}

pub(super) struct Stub {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    account: Mutex<Account>,
    changed: Condvar,
    sqlite: Mutex<SqliteConnection>,
    runtime: tokio::runtime::Runtime,
}

impl Account {
    /// Nothing goes wrong any more.
    pub(super) fn calm(&mut self) {
        self.faults.clear();
    }
}

impl Stub {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let sqlite = runtime.block_on(SqliteConnection::connect("sqlite::memory:")).expect("SQLite");
        let shared = Arc::new(Shared {
            account: Mutex::default(),
            changed: Condvar::new(),
            sqlite: Mutex::new(sqlite),
            runtime,
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { url, shared }
    }

    pub(super) fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.shared.account.lock().expect("a lock")
    }

    /// From now on calls that begin like this (`POST /queues`) go wrong, so often.
    pub(super) fn fault(&self, call: &str, times: u32, fault: Fault) {
        self.account().faults.push((call.to_owned(), times, fault));
    }

    /// Waits until a call hangs.
    pub(super) fn hangs(&self) {
        let account = self.account();
        let limit = Duration::from_secs(60);
        let waited = self.shared.changed.wait_timeout_while(account, limit, |account| account.hung == 0);
        let (mut account, timeout) = waited.expect("a lock");
        assert!(!timeout.timed_out(), "nothing hung");
        account.hung = 0;
        account.faults.clear();
    }

    /// Runs SQL as the database does.
    pub(super) fn sql(&self, sql: &str) -> Vec<Value> {
        self.shared.sql(sql).expect("SQL")
    }

    /// All secrets' values.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.account().workers.values().flat_map(|secrets| secrets.values().cloned()).collect()
    }
}

fn refused(status: u16, code: u64, message: &str) -> (u16, Value) {
    let error = json!({ "code": code, "message": message });
    (status, json!({ "success": false, "errors": [error], "messages": [], "result": null }))
}

fn done(result: Value) -> (u16, Value) {
    let mut answer = json!({ "success": true, "errors": [], "messages": [] });
    answer["result"] = result;
    (200, answer)
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        let mut stream = stream;
        loop {
            let (mut first, mut length, mut bearer) = (String::new(), 0, String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                if line.to_ascii_lowercase().starts_with("authorization:") {
                    bearer = line.split_ascii_whitespace().last().unwrap_or_default().to_owned();
                }
                if first.is_empty() {
                    first.clone_from(&line);
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let mut words = first.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let target = target.strip_prefix("/client/v4").unwrap_or(target);
            let short = target.strip_prefix(&format!("/accounts/{ACCOUNT}")).unwrap_or(target);
            let fault = self.fault(&format!("{method} {short}"));
            let after = match fault {
                Some(Fault::Status(_, Some(after))) => format!("Retry-After: {after}\r\n"),
                _ => String::new(),
            };
            let (status, answer) = match fault {
                Some(Fault::CutBefore) => return,
                Some(Fault::HangBefore) => return self.hang(reader),
                Some(Fault::Status(status, _)) => refused(status, 971, "please wait"),
                _ => self.answer(method, short, &bearer, &body),
            };
            match fault {
                Some(Fault::CutAfter) => return,
                Some(Fault::HangAfter) => return self.hang(reader),
                _ => {}
            }
            let answer = answer.to_string();
            let text = format!(
                "HTTP/1.1 {status} X\r\n{after}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            );
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Says that it hangs, and does so until the other side is gone.
    fn hang(&self, mut reader: BufReader<TcpStream>) {
        self.account.lock().expect("a lock").hung += 1;
        self.changed.notify_all();
        let _ = reader.read(&mut [0]);
    }

    fn fault(&self, call: &str) -> Option<Fault> {
        let mut account = self.account.lock().expect("a lock");
        let found = account
            .faults
            .iter_mut()
            .find(|(begin, times, _)| *times > 0 && call.starts_with(begin.as_str()))?;
        found.1 -= 1;
        Some(found.2)
    }

    fn answer(&self, method: &str, target: &str, bearer: &str, body: &[u8]) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if bearer != TOKEN {
            return match path {
                "/user/tokens/verify" => refused(401, 1000, "Invalid API Token"),
                _ => refused(403, 9109, "Invalid access token"),
            };
        }
        let mut account = self.account.lock().expect("a lock");
        if account.denied.iter().any(|part| path.contains(part)) {
            return refused(403, 10000, "Authentication error");
        }
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let sql = document["sql"].as_str().unwrap_or_default();
        if method != "GET" && !sql.starts_with("SELECT") {
            account.writes.push(format!("{method} {path}"));
        }
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        let page = number(query, "page").max(1);
        match (method, parts.as_slice()) {
            ("GET", ["user", "tokens", "verify"]) => done(json!({ "id": "t", "status": "active" })),
            ("GET", [""]) => done(json!({ "id": ACCOUNT, "name": "Somebody's account" })),
            ("GET", ["workflows"] | ["containers", "applications"]) => done(json!([])),
            ("GET", ["d1", "database"]) => {
                // Counts everything, as D1 does, and tells no number of pages.
                let all = account.databases.clone();
                let list = all.iter().map(|name| json!({ "name": name, "uuid": format!("uuid-of-{name}") }));
                paged(&list.collect::<Vec<_>>(), page, false)
            }
            ("POST", ["d1", "database"]) => match account.databases.contains(&text("name")) {
                true => refused(400, 7502, "A database with that name already exists"),
                false => {
                    account.databases.push(text("name"));
                    done(json!({ "name": text("name"), "uuid": format!("uuid-of-{}", text("name")) }))
                }
            },
            ("POST", ["d1", "database", id, "query"]) => {
                assert!(account.databases.iter().any(|name| format!("uuid-of-{name}") == *id), "{id}");
                match self.sql(sql) {
                    Ok(rows) => done(json!([{ "results": rows, "success": true, "meta": {} }])),
                    Err(error) => refused(400, 7500, &error),
                }
            }
            ("POST", ["d1", "database", _, "raw"]) => {
                let mut results = Vec::new();
                for statement in document["batch"].as_array().expect("a batch") {
                    results.push(json!({ "sql": statement["sql"], "params": statement["params"] }));
                }
                match self.raw(&results) {
                    Ok(results) => done(Value::Array(results)),
                    Err(error) => refused(400, 7500, &error),
                }
            }
            ("GET", ["storage", "kv", "namespaces"]) => {
                let all = account.namespaces.clone();
                let list = all.iter().map(|title| json!({ "title": title, "id": format!("kv-of-{title}") }));
                paged(&list.collect::<Vec<_>>(), page, true)
            }
            ("POST", ["storage", "kv", "namespaces"]) => match account.namespaces.contains(&text("title")) {
                true => refused(
                    400,
                    10014,
                    "create namespace: 'A namespace with this account ID and title already exists.'",
                ),
                false => {
                    account.namespaces.push(text("title"));
                    done(json!({ "title": text("title"), "id": format!("kv-of-{}", text("title")) }))
                }
            },
            ("GET", ["r2", "buckets"]) => {
                let from = number(query, "cursor");
                let list: Vec<Value> = account.buckets.iter().map(|name| json!({ "name": name })).collect();
                let end = (from + PAGE).min(list.len());
                let (status, mut answer) = done(json!({ "buckets": list[from..end] }));
                let cursor = if end < list.len() { end.to_string() } else { String::new() };
                answer["result_info"] = json!({ "cursor": cursor, "per_page": PAGE });
                (status, answer)
            }
            ("POST", ["r2", "buckets"]) => match account.buckets.contains(&text("name")) {
                true => refused(409, 10004, "The bucket you tried to create already exists, and you own it."),
                false => {
                    account.buckets.push(text("name"));
                    done(json!({ "name": text("name") }))
                }
            },
            ("GET", ["queues"]) => {
                let list = account
                    .queues
                    .iter()
                    .map(|name| json!({ "queue_name": name, "queue_id": format!("q-{name}") }));
                paged(&list.collect::<Vec<_>>(), page, true)
            }
            ("POST", ["queues"]) => match account.queues.contains(&text("queue_name")) {
                true => refused(409, 11009, "Queue name is already taken."),
                false => {
                    account.queues.push(text("queue_name"));
                    done(json!({ "queue_name": text("queue_name") }))
                }
            },
            ("GET", ["workers", "scripts"]) => {
                done(account.workers.keys().map(|name| json!({ "id": name })).collect())
            }
            ("PUT", ["workers", "scripts", name]) => {
                assert!(String::from_utf8_lossy(body).contains("export default"));
                account.workers.entry((*name).to_owned()).or_default();
                done(json!({ "id": name }))
            }
            ("GET" | "PUT", ["workers", "scripts", name, "secrets"]) => {
                let Some(secrets) = account.workers.get_mut(*name) else {
                    return refused(404, 10007, "This Worker does not exist on your account.");
                };
                if method == "PUT" {
                    assert_eq!(document["type"], "secret_text");
                    secrets.insert(text("name"), text("text"));
                }
                done(secrets.keys().map(|name| json!({ "name": name, "type": "secret_text" })).collect())
            }
            ("GET", ["zones"]) => {
                let name = query.split('&').find_map(|pair| pair.strip_prefix("name=")).unwrap_or_default();
                let known = ["example.com", "example.net"].iter().filter(|zone| **zone == name);
                done(
                    known
                        .map(|zone| json!({ "id": format!("z-{zone}"), "name": zone, "status": "active" }))
                        .collect(),
                )
            }
            ("GET", ["zones", _, "workers", "routes"]) => done(json!([])),
            ("GET", ["zones", _, "dns_records"]) => {
                let list =
                    account.records.iter().map(|name| json!({ "id": format!("r-{name}"), "name": name }));
                paged(&list.collect::<Vec<_>>(), page, true)
            }
            ("POST", ["zones", _, "dns_records"]) => match account.records.contains(&text("name")) {
                true => refused(400, 81058, "An identical record already exists."),
                false => {
                    account.records.push(text("name"));
                    done(json!({ "id": "r", "name": text("name") }))
                }
            },
            _ => refused(
                404,
                7003,
                "Could not route to that place, perhaps your object identifier is invalid?",
            ),
        }
    }

    /// All statements or none, as a batch of D1; the rows of the first one that has some.
    fn sql(&self, sql: &str) -> Result<Vec<Value>, String> {
        let mut sqlite = self.sqlite.lock().expect("a lock");
        self.runtime.block_on(async {
            let mut transaction = sqlite.begin().await.map_err(|error| error.to_string())?;
            let rows = run_sql(&mut transaction, sql, &[]).await?;
            transaction.commit().await.map_err(|error| error.to_string())?;
            Ok(rows.iter().map(|row| Value::Object(row.iter().cloned().collect())).collect())
        })
    }

    fn raw(&self, statements: &[Value]) -> Result<Vec<Value>, String> {
        let mut sqlite = self.sqlite.lock().expect("a lock");
        self.runtime.block_on(async {
            let mut transaction = sqlite.begin().await.map_err(|error| error.to_string())?;
            let mut results = Vec::new();
            for statement in statements {
                let params = statement["params"].as_array().cloned().unwrap_or_default();
                let sql = statement["sql"].as_str().unwrap_or_default();
                let rows = run_sql(&mut transaction, sql, &params).await?;
                let rows: Vec<Vec<Value>> =
                    rows.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect()).collect();
                results.push(json!({ "results": { "columns": [], "rows": rows }, "success": true, "meta": { "changes": 1 } }));
            }
            transaction.commit().await.map_err(|error| error.to_string())?;
            Ok(results)
        })
    }
}

async fn run_sql(
    sqlite: &mut SqliteConnection,
    sql: &str,
    params: &[Value],
) -> Result<Vec<Vec<(String, Value)>>, String> {
    use futures_util::TryStreamExt;
    let text = sqlx::AssertSqlSafe(sql.to_owned());
    let results: Vec<_> = if params.is_empty() {
        sqlx::raw_sql(text).fetch_many(sqlite).try_collect().await
    } else {
        let mut query = sqlx::query(text);
        for param in params {
            query = match param {
                Value::Null => query.bind(None::<String>),
                Value::Number(number) => query.bind(number.as_i64()),
                other => query.bind(other.as_str().map(str::to_owned)),
            };
        }
        let rows = query.fetch_all(sqlite).await;
        rows.map(|rows| rows.into_iter().map(Either::Right).collect())
    }
    .map_err(|error| match error.as_database_error() {
        Some(error) => format!("{}: SQLITE_ERROR", error.message()),
        None => error.to_string(),
    })?;
    let rows = results.into_iter().filter_map(Either::right);
    Ok(rows
        .map(|row: sqlx::sqlite::SqliteRow| {
            let columns = row.columns().iter().enumerate();
            columns
                .map(|(at, column)| {
                    let raw = row.try_get_raw(at).expect("a value");
                    let value = match raw.type_info().name() {
                        "NULL" => Value::Null,
                        "INTEGER" => json!(row.get::<i64, _>(at)),
                        _ => json!(row.get::<String, _>(at)),
                    };
                    (column.name().to_owned(), value)
                })
                .collect()
        })
        .collect())
}

fn number(query: &str, name: &str) -> usize {
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn paged(all: &[Value], page: usize, tells_pages: bool) -> (u16, Value) {
    let list: Vec<Value> = all.iter().skip((page - 1) * PAGE).take(PAGE).cloned().collect();
    let mut info = json!({ "page": page, "per_page": PAGE, "count": list.len(), "total_count": all.len() });
    if tells_pages {
        info["total_pages"] = json!(all.len().div_ceil(PAGE));
    }
    let (status, mut answer) = done(Value::Array(list));
    answer["result_info"] = info;
    (status, answer)
}
