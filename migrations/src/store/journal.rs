use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{StoredAudit, StoredEvent, Workspace};
use burstflare_ports::store::{Journal, Page};

use super::{SqlStore, clamped, params};
use crate::column::{MAX_INTEGER, Reader};
use crate::database::{Database, Value};
use crate::table::{AUDIT, EVENTS, LAST_EVENT, read_audit, read_event};

#[async_trait]
impl<D: Database> Journal for SqlStore<D> {
    async fn events(
        &self,
        workspace: Id<Workspace>,
        after: u64,
        limit: usize,
    ) -> PortResult<Vec<StoredEvent>> {
        let rows = self.rows(EVENTS, params![workspace, number(after), clamped(limit)]).await?;
        rows.into_iter().map(|row| read_event(&mut Reader::new(row))).collect()
    }

    async fn last_event(&self, workspace: Id<Workspace>) -> PortResult<u64> {
        let row = self.rows(LAST_EVENT, params![workspace]).await?.into_iter().next();
        row.map_or(Ok(0), |row| Reader::new(row).next("events.seq"))
    }

    async fn audit(
        &self,
        workspace: Id<Workspace>,
        before: Option<u64>,
        limit: usize,
    ) -> PortResult<Page<StoredAudit>> {
        let before = number(before.unwrap_or(u64::MAX));
        self.page_by(AUDIT, params![workspace, before], limit, read_audit).await
    }
}

/// A cursor from outside: what is over every sequence number stays over it.
fn number(cursor: u64) -> Value {
    Value::Int(i64::try_from(cursor).unwrap_or(MAX_INTEGER).min(MAX_INTEGER))
}
