use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Effect, StoredEffect, Workspace};
use burstflare_ports::store::Outbox;
use burstflare_ports::time::Timestamp;

use super::{SqlStore, clamped, params};
use crate::column::Reader;
use crate::database::{Database, Statement};
use crate::table::{
    DIRECTORY_OUTBOX_POSTPONE, DIRECTORY_OUTBOX_SETTLE, GRANTS_SWEEP, OUTBOX_BACKLOG, OUTBOX_DUE,
    OUTBOX_DUE_OF, OUTBOX_POSTPONE, OUTBOX_SETTLE, OUTBOX_WAITING, TICKETS_SWEEP, TOKENS_SWEEP, read_effect,
};

#[async_trait]
impl<D: Database> Outbox for SqlStore<D> {
    async fn due(
        &self,
        workspace: Option<Id<Workspace>>,
        now: Timestamp,
        limit: usize,
    ) -> PortResult<Vec<StoredEffect>> {
        let rows = match workspace {
            Some(workspace) => self.rows(OUTBOX_DUE_OF, params![workspace, now, clamped(limit)]).await?,
            None => self.rows(OUTBOX_DUE, params![now, clamped(limit)]).await?,
        };
        rows.into_iter().map(|row| read_effect(&mut Reader::new(row))).collect()
    }

    async fn settle(&self, effect: &StoredEffect) -> PortResult<()> {
        let statement = match effect.workspace {
            Some(workspace) => Statement::new(OUTBOX_SETTLE, params![effect.seq, workspace]),
            None => Statement::new(DIRECTORY_OUTBOX_SETTLE, params![effect.seq]),
        };
        self.write("outbox.settle", vec![statement]).await.map(drop)
    }

    async fn postpone(&self, effect: &StoredEffect, due_at: Timestamp) -> PortResult<()> {
        let statement = match effect.workspace {
            Some(workspace) => Statement::new(OUTBOX_POSTPONE, params![due_at, effect.seq, workspace]),
            None => Statement::new(DIRECTORY_OUTBOX_POSTPONE, params![due_at, effect.seq]),
        };
        self.write("outbox.postpone", vec![statement]).await.map(drop)
    }

    async fn sweep_expired(&self, before: Timestamp, limit: usize) -> PortResult<u64> {
        let mut gone = 0;
        // One batch for each family: they need not lie in one database.
        for sweeps in [&[TICKETS_SWEEP][..], &[GRANTS_SWEEP, TOKENS_SWEEP]] {
            let mut batch = Vec::new();
            for sql in sweeps {
                batch.push(Statement::new(*sql, params![before, clamped(limit)]));
            }
            gone += self.write("outbox.sweep_expired", batch).await?;
        }
        Ok(gone)
    }

    async fn backlog(&self) -> PortResult<u64> {
        let row = self.rows(OUTBOX_BACKLOG, Vec::new()).await?.into_iter().next();
        row.map_or(Ok(0), |row| Reader::new(row).next("outbox.count"))
    }

    async fn waiting(&self, workspace: Id<Workspace>, effect: &Effect) -> PortResult<bool> {
        self.any(OUTBOX_WAITING, params![workspace, *effect]).await
    }
}
