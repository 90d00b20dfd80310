//! The schema on D1, by the API: the migrations are in this program, so that they are those of this version. What was
//! applied stands in wrangler's own table, under the names that wrangler would give, so either may go on behind the other.

use burstflare_adapters_cloudflare::deployment::{Answer, Call};
use burstflare_migrations::schema::{Migration, SHARED};
use serde_json::json;

use super::Api;
use super::api::{Written, refused};
use crate::exit::{Exit, Failure};

/// Wrangler's table, as it makes it.
const REMEMBER: &str = "CREATE TABLE IF NOT EXISTS d1_migrations(\n\
    id INTEGER PRIMARY KEY AUTOINCREMENT,\n\
    name TEXT UNIQUE,\n\
    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL\n)";
const KNOWN: &str = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'd1_migrations'";
const APPLIED: &str = "SELECT name FROM d1_migrations ORDER BY id";

/// How a database stands.
#[derive(Debug)]
pub struct Pending {
    /// How many migrations it has.
    pub applied: usize,
    /// What it lacks, in order.
    pub missing: Vec<&'static Migration>,
}

fn query(account: &str, database: &str, sql: &str) -> Call {
    Call::post(&["accounts", account, "d1", "database", database, "query"], &json!({ "sql": sql }))
}

/// The first column of the first statement's rows.
fn names(answer: &Answer) -> Vec<String> {
    let rows = answer.result[0]["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
}

/// Reads what is applied.
///
/// # Errors
/// When the database cannot be read, or a newer version wrote it.
pub async fn pending(api: &Api, account: &str, database: &str) -> Result<Pending, Failure> {
    let what = "reading the schema's state";
    let known = api.read(what, &query(account, database, KNOWN)).await?;
    let applied = match names(&known).is_empty() {
        true => Vec::new(),
        false => names(&api.read(what, &query(account, database, APPLIED)).await?),
    };
    compare(&applied)
}

fn file_name(migration: &Migration) -> String {
    format!("{}.sql", migration.name)
}

fn compare(applied: &[String]) -> Result<Pending, Failure> {
    let is = |migration: &Migration, name: &String| file_name(migration) == *name;
    if let Some(newer) = applied.iter().find(|name| !SHARED.iter().any(|known| is(known, name))) {
        let message = format!(
            "a newer version wrote this database: it has the migration {newer}, which this version does not know"
        );
        return Err(Failure::new(Exit::Conflict, message)
            .hint("Update `flare` to the version that is deployed, or a newer one."));
    }
    let missing: Vec<&Migration> =
        SHARED.iter().filter(|known| !applied.iter().any(|name| is(known, name))).collect();
    Ok(Pending { applied: applied.len(), missing })
}

/// Applies one migration and remembers it, both or neither; after a lost answer it looks before it tries again.
///
/// # Errors
/// When the database refuses, or Cloudflare does not recover.
pub async fn apply(api: &Api, account: &str, database: &str, migration: &Migration) -> Result<(), Failure> {
    let name = file_name(migration);
    // Statements of one call are one batch, and a batch is a transaction.
    let mut sql = format!("{REMEMBER};\n");
    for statement in migration.statements() {
        sql.push_str(&format!("{statement};\n"));
    }
    sql.push_str(&format!("INSERT INTO d1_migrations (name) VALUES ('{name}');"));
    let call = query(account, database, &sql);
    let mut tried = 1;
    loop {
        let refusal = match api.write(&call, tried).await? {
            Written::Done(_) => return Ok(()),
            Written::Refused(refusal) => Some(refusal),
            Written::Unknown => None,
        };
        let missing = pending(api, account, database).await?.missing;
        match (missing.iter().any(|other| other.name == migration.name), refusal) {
            (false, _) => return Ok(()),
            (true, Some(refusal)) => return Err(refused(&format!("applying {name}"), &refusal)),
            (true, None) => tried += 1,
        }
    }
}

/// Whether somebody has an account here: then something may be sealed by a master key.
///
/// # Errors
/// When the database cannot be read.
pub(crate) async fn is_in_use(api: &Api, account: &str, database: &str) -> Result<bool, Failure> {
    let what = "looking whether the database is in use";
    let table = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'users'";
    if names(&api.read(what, &query(account, database, table)).await?).is_empty() {
        return Ok(false);
    }
    let first = api.read(what, &query(account, database, "SELECT id AS name FROM users LIMIT 1")).await?;
    Ok(!names(&first).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_in_order_and_newer_ones_are_refused() {
        let all: Vec<String> = SHARED.iter().map(file_name).collect();
        assert_eq!(compare(&[]).unwrap().missing.len(), SHARED.len());
        assert!(compare(&all).unwrap().missing.is_empty());
        let rest = compare(&all[..3]).unwrap();
        assert_eq!((rest.applied, rest.missing[0].name), (3, SHARED[3].name));
        let newer = compare(&["9999_later.sql".to_owned()]).unwrap_err();
        assert_eq!(newer.exit, Exit::Conflict);
    }
}
