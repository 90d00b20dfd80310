use std::collections::BTreeSet;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::time::Timestamp;

use crate::database::{BatchError, Database, Statement, Value};
use crate::schema::Migration;

const REMEMBER: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (name TEXT NOT NULL PRIMARY KEY, applied_at INTEGER NOT NULL)";
const APPLIED: &str = "SELECT name FROM schema_migrations ORDER BY name";
const APPLY: &str = "INSERT INTO schema_migrations (name, applied_at) VALUES (?, ?)";

/// Brings a database to the newest schema: applies what is missing of the given sets, each migration
/// atomically, and answers the names of those it applied.
///
/// # Errors
/// `Unsupported` where the database knows migrations that these sets do not (a newer version wrote it); otherwise what
/// the database answers. Migrations before the failing one stay applied.
pub async fn apply<D: Database>(
    database: &D,
    sets: &[&[Migration]],
    now: Timestamp,
) -> PortResult<Vec<&'static str>> {
    run(database, vec![Statement::new(REMEMBER, Vec::new())], "schema_migrations").await?;
    let mut applied = BTreeSet::new();
    for row in database.query(Statement::new(APPLIED, Vec::new())).await? {
        if let Some(Value::Text(name)) = row.0.into_iter().next() {
            applied.insert(name);
        }
    }
    let known = || sets.iter().flat_map(|set| set.iter());
    if let Some(newer) = applied.iter().find(|name| !known().any(|migration| migration.name == **name)) {
        return Err(PortError::new(
            ErrorKind::Unsupported,
            "store.migrate",
            format!(
                "a newer version wrote this database: it has the migration {newer}, which this version does not know"
            ),
        ));
    }
    let mut done = Vec::new();
    for migration in known().filter(|migration| !applied.contains(migration.name)) {
        let mut statements: Vec<_> =
            migration.statements().map(|sql| Statement::new(sql, Vec::new())).collect();
        let params = vec![Value::Text(migration.name.to_owned()), Value::Int(now.millis())];
        statements.push(Statement::new(APPLY, params));
        run(database, statements, migration.name).await?;
        done.push(migration.name);
    }
    Ok(done)
}

async fn run<D: Database>(database: &D, statements: Vec<Statement>, name: &str) -> PortResult<()> {
    match database.batch(statements).await {
        Ok(_) => Ok(()),
        Err(BatchError::Failed(error)) => Err(error),
        Err(BatchError::Constraint { name: constraint }) => Err(PortError::new(
            ErrorKind::Internal,
            "store.migrate",
            format!("migration {name} broke the constraint {constraint}"),
        )),
    }
}
