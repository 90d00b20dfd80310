//! The one connection that writes, in a task of its own.
//!
//! What waits when it is free is committed together: each piece of work in a savepoint, so that one whose guards do
//! not hold is undone alone, and one flush to stable storage for all. Nobody is answered before that flush. Alone or
//! together, work is done in the order in which it came. A caller that goes away leaves its work done or not, whole.

use std::time::Duration;

use burstflare_migrations::{BatchError, Row, Statement};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::sync::{mpsc, oneshot};

use super::database::{batch_failed, execute, failed, fetch, row_of};

/// Pieces of work that wait; further callers wait for a place.
const WAITING: usize = 256;
/// Pieces that are committed together at most: it bounds how long the first of them waits for its answer.
const TOGETHER: usize = 64;
/// How long an orderly end may take.
const CLOSING: Duration = Duration::from_secs(30);

/// The way to the task. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    inbox: mpsc::Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Work(Work),
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Work {
    job: Job,
    answer: oneshot::Sender<Result<Done, BatchError>>,
}

#[derive(Debug, Clone)]
enum Job {
    /// Statements that are done all or not at all.
    Batch(Vec<Statement>),
    /// One statement that answers rows.
    Returning(Statement),
}

#[derive(Debug)]
enum Done {
    Changed(u64),
    Rows(Vec<Row>),
}

impl Writer {
    /// Begins with an open connection.
    pub(super) fn start(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        let (inbox, messages) = mpsc::channel(WAITING);
        let task = Task { options, connection: Some(connection) };
        tokio::spawn(task.run(messages));
        Self { inbox }
    }

    /// Does statements atomically; answers how many rows they changed.
    pub(super) async fn batch(&self, statements: Vec<Statement>) -> Result<u64, BatchError> {
        match self.ask(Job::Batch(statements)).await? {
            Done::Changed(rows) => Ok(rows),
            Done::Rows(_) => Err(BatchError::Failed(mistaken())),
        }
    }

    /// Does one statement; answers its rows.
    pub(super) async fn returning(&self, statement: Statement) -> PortResult<Vec<Row>> {
        match self.ask(Job::Returning(statement)).await {
            Ok(Done::Rows(rows)) => Ok(rows),
            Ok(Done::Changed(_)) => Err(mistaken()),
            Err(BatchError::Failed(error)) => Err(error),
            Err(BatchError::Constraint { name }) => Err(PortError::new(
                ErrorKind::Internal,
                "store.write",
                format!("the statement broke the constraint {name}"),
            )),
        }
    }

    /// Waits for what came before, then closes the file tidily.
    pub(super) async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.inbox.send(Message::Close(answer)).await.is_ok()
            && tokio::time::timeout(CLOSING, closed).await.is_err()
        {
            tracing::warn!("the records were not closed in time");
        }
    }

    async fn ask(&self, job: Job) -> Result<Done, BatchError> {
        let (answer, done) = oneshot::channel();
        let gone = || BatchError::Failed(closed());
        self.inbox.send(Message::Work(Work { job, answer })).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

struct Task {
    options: SqliteConnectOptions,
    /// None after SQLite ended a transaction by itself (a full disk, a failing one), of which the connection's own
    /// count of transactions knows nothing: who writes next begins with a new connection.
    connection: Option<SqliteConnection>,
}

/// Why work that was tried together was not done.
enum Apart {
    /// Nothing is committed: each can be tried alone.
    Before,
    /// The commit itself failed, and what it left is not certain.
    Commit(BatchError),
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut messages = Vec::new();
        while inbox.recv_many(&mut messages, TOGETHER).await > 0 {
            let mut group = Vec::new();
            for message in messages.drain(..) {
                match message {
                    // Nobody waits for it any more.
                    Message::Work(work) if work.answer.is_closed() => {}
                    Message::Work(work) => group.push(work),
                    Message::Close(answer) => {
                        self.serve(std::mem::take(&mut group)).await;
                        // From here on callers are told that the records are closed.
                        drop(inbox);
                        self.close().await;
                        let _ = answer.send(());
                        return;
                    }
                }
            }
            self.serve(group).await;
        }
    }

    async fn close(self) {
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "closing the records");
        }
    }

    async fn serve(&mut self, group: Vec<Work>) {
        let outcome = if group.len() > 1 { self.together(&group).await } else { Err(Apart::Before) };
        match outcome {
            Ok(outcomes) => {
                for (work, outcome) in group.into_iter().zip(outcomes) {
                    // A caller may have gone meanwhile; its work is done.
                    let _ = work.answer.send(outcome);
                }
            }
            Err(Apart::Before) => {
                for Work { job, answer } in group {
                    let outcome = self.alone(job).await;
                    let _ = answer.send(outcome);
                }
            }
            Err(Apart::Commit(error)) => {
                tracing::warn!(?error, "a commit of {} failed", group.len());
                for work in group {
                    let error = match &error {
                        BatchError::Failed(error) => {
                            PortError::new(error.kind(), "store.commit", "the common commit failed")
                        }
                        BatchError::Constraint { .. } => mistaken(),
                    };
                    let _ = work.answer.send(Err(BatchError::Failed(error)));
                }
            }
        }
    }

    async fn ready(&mut self) -> PortResult<&mut SqliteConnection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connected = SqliteConnection::connect_with(&self.options).await;
                connected.map_err(|error| failed("store.open", error))?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Gives the connection up unless the error is only about the statement.
    fn judge<T>(&mut self, outcome: Result<T, BatchError>) -> Result<T, BatchError> {
        if matches!(outcome, Err(BatchError::Failed(_))) {
            self.connection = None;
        }
        outcome
    }

    async fn alone(&mut self, job: Job) -> Result<Done, BatchError> {
        let connection = self.ready().await.map_err(BatchError::Failed)?;
        let outcome = match job {
            // A statement by itself is a transaction by itself.
            Job::Returning(_) => perform(connection, job).await,
            Job::Batch(_) => {
                async {
                    command(connection, "BEGIN IMMEDIATE").await?;
                    let outcome = perform(connection, job).await;
                    command(connection, if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
                    outcome
                }
                .await
            }
        };
        self.judge(outcome)
    }

    async fn together(&mut self, group: &[Work]) -> Result<Vec<Result<Done, BatchError>>, Apart> {
        let connection = self.ready().await.map_err(|_| Apart::Before)?;
        let outcomes = match all(connection, group).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::debug!(?error, "work is done apart");
                // Rolls back whatever was begun.
                self.connection = None;
                return Err(Apart::Before);
            }
        };
        let committed = command(connection, "COMMIT").await;
        self.judge(committed).map_err(Apart::Commit)?;
        Ok(outcomes)
    }
}

/// Everything but the commit. An error is one that is not about a single statement.
async fn all(
    connection: &mut SqliteConnection,
    group: &[Work],
) -> Result<Vec<Result<Done, BatchError>>, BatchError> {
    let mut outcomes = Vec::with_capacity(group.len());
    command(connection, "BEGIN IMMEDIATE").await?;
    for work in group {
        command(connection, "SAVEPOINT piece").await?;
        let outcome = perform(connection, work.job.clone()).await;
        match outcome {
            Err(BatchError::Failed(error)) => return Err(BatchError::Failed(error)),
            Err(BatchError::Constraint { .. }) => command(connection, "ROLLBACK TO piece").await?,
            Ok(_) => {}
        }
        command(connection, "RELEASE piece").await?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

async fn perform(connection: &mut SqliteConnection, job: Job) -> Result<Done, BatchError> {
    match job {
        Job::Batch(statements) => {
            let mut changed = 0;
            for statement in statements {
                changed += execute(connection, statement).await.map_err(batch_failed)?;
            }
            Ok(Done::Changed(changed))
        }
        Job::Returning(statement) => {
            let rows = fetch(connection, statement).await.map_err(batch_failed)?;
            let rows: PortResult<Vec<Row>> = rows.iter().map(row_of).collect();
            rows.map(Done::Rows).map_err(BatchError::Failed)
        }
    }
}

async fn command(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), BatchError> {
    connection.execute(AssertSqlSafe(sql)).await.map(drop).map_err(batch_failed)
}

fn closed() -> PortError {
    PortError::new(ErrorKind::Unavailable, "store.write", "the records are closed")
}

fn mistaken() -> PortError {
    PortError::new(ErrorKind::Internal, "store.write", "an answer to another question")
}
