use std::borrow::Cow;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_migrations::{BatchError, Database, Row, Statement, Value, apply, broken_constraint, schema};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::time::Timestamp;
use sqlx::sqlite::{
    Sqlite, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection, Executor, Row as _, TypeInfo, ValueRef};

use super::DataFolder;
use super::writer::Writer;

const READERS: u32 = 4;
/// Guards are a statement for each slot and condition, some hundred in all.
const CACHED_STATEMENTS: usize = 512;

/// One SQLite file: a single connection that writes (a task of its own), and a few that read beside it. Clones share it.
#[derive(Clone)]
pub struct SqliteDatabase {
    inner: Arc<Inner>,
}

struct Inner {
    /// Who writes queues here, in order, instead of for SQLite's lock.
    writer: Writer,
    readers: SqlitePool,
    folder: DataFolder,
}

impl SqliteDatabase {
    /// Opens `records.sqlite` in the folder, makes it where it is missing and brings it to the newest schema.
    ///
    /// # Errors
    /// `Unsupported` where a newer version wrote it; otherwise what the file system or SQLite answers.
    pub async fn open(folder: &DataFolder, now: Timestamp) -> PortResult<Self> {
        let file = folder.path().join("records.sqlite");
        // SQLite gives its other files the mode of this one.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(
            |error| {
                PortError::new(ErrorKind::Denied, "store.open", format!("cannot open {}", file.display()))
                    .with_source(error)
            },
        )?;
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was answered survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            .statement_cache_capacity(CACHED_STATEMENTS)
            .pragma("trusted_schema", "OFF");
        let writer =
            SqliteConnection::connect_with(&options).await.map_err(|error| failed("store.open", error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            // A ping before each use would double the cost of a read; a local file does not go away.
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("query_only", "ON"));
        let inner = Inner { writer: Writer::start(options, writer), readers, folder: folder.clone() };
        let database = Self { inner: Arc::new(inner) };
        apply(&database, &[schema::SHARED, schema::LOCAL], now).await?;
        Ok(database)
    }

    /// The folder it lies in.
    #[must_use]
    pub fn folder(&self) -> &DataFolder {
        &self.inner.folder
    }

    /// Runs one statement that writes and answers rows (`RETURNING`).
    ///
    /// # Errors
    /// What SQLite answers.
    pub async fn write_returning(&self, statement: Statement) -> PortResult<Vec<Row>> {
        self.inner.writer.returning(statement).await
    }

    /// Runs statements that break no constraint, atomically; answers how many rows they changed.
    ///
    /// # Errors
    /// What SQLite answers.
    pub async fn write(&self, operation: &'static str, statements: Vec<Statement>) -> PortResult<u64> {
        self.batch(statements).await.map_err(|error| match error {
            BatchError::Failed(error) => error,
            BatchError::Constraint { name } => {
                PortError::new(ErrorKind::Internal, operation, format!("broke the constraint {name}"))
            }
        })
    }

    /// Waits for the writer, then closes the file tidily. Later calls answer `Unavailable`.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }
}

impl fmt::Debug for SqliteDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteDatabase({})", self.inner.folder.path().display())
    }
}

#[async_trait]
impl Database for SqliteDatabase {
    async fn query(&self, statement: Statement) -> PortResult<Vec<Row>> {
        let rows =
            fetch(&self.inner.readers, statement).await.map_err(|error| failed("store.read", error))?;
        rows.iter().map(row_of).collect()
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<u64, BatchError> {
        self.inner.writer.batch(statements).await
    }
}

fn arguments(params: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    use sqlx::Arguments as _;
    let mut arguments = SqliteArguments::default();
    arguments.reserve(params.len(), 0);
    for param in params {
        match param {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

pub(super) async fn fetch<'c, E>(executor: E, statement: Statement) -> Result<Vec<SqliteRow>, sqlx::Error>
where
    E: Executor<'c, Database = Sqlite>,
{
    let arguments = arguments(statement.params)?;
    match statement.sql {
        Cow::Borrowed(sql) => sqlx::query_with(sql, arguments).fetch_all(executor).await,
        Cow::Owned(sql) => sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(executor).await,
    }
}

pub(super) async fn execute(
    connection: &mut SqliteConnection,
    statement: Statement,
) -> Result<u64, sqlx::Error> {
    let arguments = arguments(statement.params)?;
    let done = match statement.sql {
        Cow::Borrowed(sql) => sqlx::query_with(sql, arguments).execute(connection).await?,
        Cow::Owned(sql) => sqlx::query_with(AssertSqlSafe(sql), arguments).execute(connection).await?,
    };
    Ok(done.rows_affected())
}

pub(super) fn row_of(row: &SqliteRow) -> PortResult<Row> {
    let read = || -> Result<Vec<Value>, sqlx::Error> {
        let mut values = Vec::with_capacity(row.len());
        for index in 0..row.len() {
            let raw = row.try_get_raw(index)?;
            values.push(if raw.is_null() {
                Value::Null
            } else if raw.type_info().name() == "INTEGER" {
                Value::Int(row.try_get_unchecked(index)?)
            } else {
                Value::Text(row.try_get_unchecked(index)?)
            });
        }
        Ok(values)
    };
    read().map(Row).map_err(|error| failed("store.read", error))
}

pub(super) fn batch_failed(error: sqlx::Error) -> BatchError {
    if let sqlx::Error::Database(answer) = &error
        && let Some(name) = broken_constraint(answer.message())
    {
        return BatchError::Constraint { name };
    }
    BatchError::Failed(failed("store.commit", error))
}

/// SQLite's primary result codes: <https://www.sqlite.org/rescode.html>.
pub(super) fn failed(operation: &'static str, error: sqlx::Error) -> PortError {
    let code = match &error {
        sqlx::Error::Database(answer) => answer.code().and_then(|code| code.parse::<u32>().ok()),
        sqlx::Error::PoolClosed | sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => Some(5),
        _ => None,
    };
    let (kind, context) = match code.map(|code| code & 0xff) {
        Some(5 | 6) => (ErrorKind::Unavailable, "the records are busy or closed"),
        Some(8 | 14 | 23) => (ErrorKind::Denied, "the file of records cannot be opened or written"),
        Some(10) => (ErrorKind::Unavailable, "the disk with the records does not work"),
        Some(11 | 26) => (ErrorKind::Corrupt, "the file of records is damaged"),
        Some(13) => (ErrorKind::Full, "no space is left for records"),
        _ => (ErrorKind::Internal, "the database refused a statement"),
    };
    PortError::new(kind, operation, context).with_source(error)
}
