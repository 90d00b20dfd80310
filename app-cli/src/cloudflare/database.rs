//! D1 by the API, for the shared statements: slow and far away, for the few records that a deployment needs from outside.

use std::sync::Arc;

use async_trait::async_trait;
use burstflare_adapters_cloudflare::deployment::{Answer, Call};
use burstflare_migrations::{BatchError, Database, Row, Statement, Value, broken_constraint};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use serde_json::json;

use super::Api;
use super::api::Written;

/// One database of an account.
pub struct RestDatabase {
    api: Arc<Api>,
    account: String,
    database: String,
}

impl RestDatabase {
    /// The database with this id.
    #[must_use]
    pub fn new(api: Arc<Api>, account: &str, database: &str) -> Self {
        Self { api, account: account.to_owned(), database: database.to_owned() }
    }

    /// Rows by position need the form called raw.
    fn call(&self, statements: &[Statement]) -> Call {
        let batch: Vec<_> = statements
            .iter()
            .map(|statement| {
                let params = statement.params.iter().map(|value| match value {
                    Value::Null => json!(null),
                    Value::Int(number) => json!(number),
                    Value::Text(text) => json!(text),
                });
                json!({ "sql": statement.sql, "params": params.collect::<Vec<_>>() })
            })
            .collect();
        let path = ["accounts", &self.account, "d1", "database", &self.database, "raw"];
        Call::post(&path, &json!({ "batch": batch }))
    }
}

fn failed(kind: ErrorKind, error: impl Into<String>) -> PortError {
    PortError::new(kind, "d1.rest", error)
}

fn rows(answer: &Answer) -> PortResult<Vec<Row>> {
    let rows = answer.result[0]["results"]["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::Null => Ok(Value::Null),
        serde_json::Value::String(text) => Ok(Value::Text(text.clone())),
        other => other
            .as_i64()
            .map(Value::Int)
            .ok_or_else(|| failed(ErrorKind::Corrupt, "a value of no type of ours")),
    };
    rows.iter()
        .map(|row| {
            let columns =
                row.as_array().ok_or_else(|| failed(ErrorKind::Corrupt, "a row that is no list"))?;
            columns.iter().map(value).collect::<PortResult<_>>().map(Row)
        })
        .collect()
}

#[async_trait]
impl Database for RestDatabase {
    async fn query(&self, statement: Statement) -> PortResult<Vec<Row>> {
        let answer = self.api.read("reading the records", &self.call(&[statement])).await;
        rows(&answer.map_err(|error| failed(ErrorKind::Unavailable, error.message))?)
    }

    /// Sent once: whoever calls has to look before trying again.
    async fn batch(&self, statements: Vec<Statement>) -> Result<u64, BatchError> {
        let unavailable = |message: String| BatchError::Failed(failed(ErrorKind::Unavailable, message));
        match self.api.write(&self.call(&statements), 1).await {
            Ok(Written::Done(answer)) => {
                let results = answer.result.as_array().map(Vec::as_slice).unwrap_or_default();
                Ok(results.iter().filter_map(|result| result["meta"]["changes"].as_u64()).sum())
            }
            Ok(Written::Unknown) => Err(unavailable("the answer was lost".to_owned())),
            Ok(Written::Refused(refusal)) => Err(match broken_constraint(&refusal.message) {
                Some(name) => BatchError::Constraint { name },
                None => BatchError::Failed(failed(ErrorKind::Internal, refusal.to_string())),
            }),
            Err(failure) => Err(unavailable(failure.message)),
        }
    }
}
