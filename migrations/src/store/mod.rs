mod access;
mod build;
mod commit;
mod guard;
mod journal;
mod outbox;
mod pack;
mod preview;
mod release;
mod secret;
mod session;
mod snapshot;
mod template;
mod workspace;

use async_trait::async_trait;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::{Id, Kind};
use burstflare_ports::store::{ChangeSet, CommitError, PAGE_LIMIT, Page, Store};

use crate::column::{Column, Reader};
use crate::database::{BatchError, Database, Row, Statement, Value};
use crate::table::Stored;

/// All ports of records over any [`Database`]: a change becomes one batch, a question one statement.
#[derive(Debug, Clone)]
pub struct SqlStore<D> {
    database: D,
}

impl<D: Database> SqlStore<D> {
    /// A store over a database whose schema is there already.
    pub const fn new(database: D) -> Self {
        Self { database }
    }

    /// The database below.
    pub const fn database(&self) -> &D {
        &self.database
    }

    async fn rows(&self, sql: &'static str, params: Vec<Value>) -> PortResult<Vec<Row>> {
        self.database.query(Statement::new(sql, params)).await
    }

    async fn one<T: Stored>(&self, sql: &'static str, params: Vec<Value>) -> PortResult<Option<T>> {
        let row = self.rows(sql, params).await?.into_iter().next();
        row.map(|row| T::read(&mut Reader::new(row))).transpose()
    }

    async fn any(&self, sql: &'static str, params: Vec<Value>) -> PortResult<bool> {
        Ok(!self.rows(sql, params).await?.is_empty())
    }

    /// A page by `read`; adds the limit as the last parameter.
    async fn page_by<T>(
        &self,
        sql: &'static str,
        mut params: Vec<Value>,
        limit: usize,
        read: impl Fn(&mut Reader) -> PortResult<T> + Send,
    ) -> PortResult<Page<T>> {
        let limit = limit.clamp(1, PAGE_LIMIT);
        // One more than wanted tells whether there is more.
        params.push(Value::Int(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)));
        let mut rows = self.rows(sql, params).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let items = rows.into_iter().map(|row| read(&mut Reader::new(row))).collect::<PortResult<_>>()?;
        Ok(Page { items, more })
    }

    async fn page<T: Stored>(
        &self,
        sql: &'static str,
        params: Vec<Value>,
        limit: usize,
    ) -> PortResult<Page<T>> {
        self.page_by(sql, params, limit, T::read).await
    }

    /// A batch that carries no guards.
    async fn write(&self, operation: &'static str, statements: Vec<Statement>) -> PortResult<u64> {
        self.database.batch(statements).await.map_err(|error| match error {
            BatchError::Failed(error) => error,
            BatchError::Constraint { name } => {
                PortError::new(ErrorKind::Internal, operation, format!("broke the constraint {name}"))
            }
        })
    }
}

/// The cursor of a list with the newest first: an id, or what sorts behind every id.
fn newest_first<K: Kind>(after: Option<Id<K>>) -> Value {
    Value::Text(after.map_or_else(|| "~".to_owned(), |id| id.to_string()))
}

/// The cursor of a list with the oldest first: an id, or what sorts before every id.
fn oldest_first<K: Kind>(after: Option<Id<K>>) -> Value {
    Value::Text(after.map(|id| id.to_string()).unwrap_or_default())
}

/// Limits of lists that are no pages.
fn clamped(limit: usize) -> Value {
    Value::Int(i64::try_from(limit.clamp(1, PAGE_LIMIT)).unwrap_or(i64::MAX))
}

macro_rules! params {
    ($($value:expr),* $(,)?) => {{
        use crate::column::Column as _;
        vec![$($value.encode()?),*]
    }};
}
use params;

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    async fn commit(&self, change: &ChangeSet) -> Result<(), CommitError> {
        change.check()?;
        let statements = commit::statements(change)?;
        if statements.is_empty() {
            return Ok(());
        }
        match self.database.batch(statements).await {
            Ok(_) => Ok(()),
            Err(BatchError::Failed(error)) => Err(CommitError::Failed(error)),
            Err(BatchError::Constraint { name }) => Err(guard::refusal(change, &name)),
        }
    }

    async fn ping(&self) -> PortResult<()> {
        self.rows("SELECT 1", Vec::new()).await.map(drop)
    }
}

impl Column for Value {
    fn encode(&self) -> PortResult<Value> {
        Ok(self.clone())
    }
    fn decode(value: Value) -> Option<Self> {
        Some(value)
    }
}
