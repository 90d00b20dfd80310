//! Records on D1: it runs the shared statements, a commit as one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use burstflare_migrations::{BatchError, Database, Row, SqlStore, Statement, Value, broken_constraint};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use js_sys::Array;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::{D1Database, D1PreparedStatement};

use crate::js::js;

/// All ports of records, on D1.
pub type D1Store = SqlStore<D1>;

/// JavaScript's numbers hold integers exactly up to 2^53 - 1, and D1 takes no BigInt.
const SAFE: i64 = (1 << 53) - 1;

/// What one request has asked of the database.
#[derive(Debug, Default)]
pub struct Counted {
    reads: AtomicU32,
    batches: AtomicU32,
}

impl Counted {
    /// Statements that read.
    #[must_use]
    pub fn reads(&self) -> u32 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Batches that wrote.
    #[must_use]
    pub fn batches(&self) -> u32 {
        self.batches.load(Ordering::Relaxed)
    }
}

/// One D1 database. Made anew for each request, so that what it counts is the request's.
#[derive(Debug)]
pub struct D1 {
    database: D1Database,
    counted: Arc<Counted>,
}

impl D1 {
    /// Over a binding.
    #[must_use]
    pub fn new(database: D1Database) -> Self {
        Self { database, counted: Arc::default() }
    }

    /// What has been asked through it.
    #[must_use]
    pub fn counted(&self) -> Arc<Counted> {
        Arc::clone(&self.counted)
    }

    fn prepare(&self, statement: &Statement) -> PortResult<D1PreparedStatement> {
        let params = statement.params.iter().map(bind).collect::<PortResult<Vec<_>>>()?;
        let prepared = self.database.prepare(statement.sql.as_ref());
        if params.is_empty() {
            return Ok(prepared);
        }
        prepared.bind(&params).map_err(|error| failed("d1.bind", &error))
    }
}

#[async_trait]
impl Database for D1 {
    async fn query(&self, statement: Statement) -> PortResult<Vec<Row>> {
        self.counted.reads.fetch_add(1, Ordering::Relaxed);
        js(async move {
            let rows =
                self.prepare(&statement)?.raw_js_value().await.map_err(|error| failed("d1.query", &error))?;
            rows.into_iter().map(read_row).collect()
        })
        .await
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<u64, BatchError> {
        if statements.is_empty() {
            return Ok(0);
        }
        self.counted.batches.fetch_add(1, Ordering::Relaxed);
        js(async move {
            let prepared = statements
                .iter()
                .map(|statement| self.prepare(statement))
                .collect::<PortResult<Vec<_>>>()
                .map_err(BatchError::Failed)?;
            let results = self.database.batch(prepared).await.map_err(|error| refused(&error))?;
            // The batch is committed: a count that cannot be read is no failure.
            let changes = |result: &worker::D1Result| {
                result.meta().ok().flatten().and_then(|meta| meta.changes).unwrap_or(0)
            };
            Ok(results.iter().map(|result| changes(result) as u64).sum())
        })
        .await
    }
}

fn bind(value: &Value) -> PortResult<JsValue> {
    match value {
        Value::Null => Ok(JsValue::NULL),
        Value::Int(number) if (-SAFE..=SAFE).contains(number) => Ok(JsValue::from_f64(*number as f64)),
        Value::Int(number) => Err(PortError::new(
            ErrorKind::Invalid,
            "d1.bind",
            format!("{number} is beyond what a JavaScript number keeps"),
        )),
        Value::Text(text) => Ok(JsValue::from_str(text)),
    }
}

fn read_row(row: JsValue) -> PortResult<Row> {
    let row: Array = row.dyn_into().map_err(|_| corrupt("a row that is no list"))?;
    row.iter().map(|value| read_value(&value)).collect::<PortResult<_>>().map(Row)
}

fn read_value(value: &JsValue) -> PortResult<Value> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let Some(text) = value.as_string() {
        return Ok(Value::Text(text));
    }
    let number = value.as_f64().ok_or_else(|| corrupt("a value that is neither number nor text"))?;
    let whole = number as i64;
    if (-SAFE..=SAFE).contains(&whole) && whole as f64 == number {
        Ok(Value::Int(whole))
    } else {
        Err(corrupt("a number that is no safe integer"))
    }
}

fn corrupt(what: &str) -> PortError {
    PortError::new(ErrorKind::Corrupt, "d1.query", what)
}

/// The plain message; the error's own `Display` is a dump with a JavaScript stack.
fn message(error: &worker::Error) -> String {
    match error {
        worker::Error::D1(error) => AsRef::<js_sys::Error>::as_ref(error).message().into(),
        worker::Error::UnknownJsError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

fn refused(error: &worker::Error) -> BatchError {
    match broken_constraint(&message(error)) {
        Some(name) => BatchError::Constraint { name },
        None => BatchError::Failed(failed("d1.batch", error)),
    }
}

/// These pass by themselves (Cloudflare's documentation of D1, "error messages").
const PASSING: [&str; 4] = [
    "Network connection lost",
    "storage caused object to be reset",
    "reset because its code was updated",
    "overloaded",
];

fn failed(operation: &'static str, error: &worker::Error) -> PortError {
    let message = message(error);
    let passing = PASSING.iter().any(|part| message.contains(part));
    let kind = if passing { ErrorKind::Unavailable } else { ErrorKind::Internal };
    PortError::new(kind, operation, message)
}
