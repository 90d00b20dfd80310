use async_trait::async_trait;

use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, checked, locked};
use crate::record::{Effect, StoredEffect, Workspace};
use crate::store::Outbox;
use crate::time::Timestamp;

#[async_trait]
impl Outbox for MemoryStore {
    async fn due(
        &self,
        workspace: Option<Id<Workspace>>,
        now: Timestamp,
        limit: usize,
    ) -> PortResult<Vec<StoredEffect>> {
        let limit = checked(limit)?;
        let state = locked(&self.state);
        let all = state.outbox.values().chain(state.directory_outbox.values());
        let mut due: Vec<_> = all
            .filter(|stored| stored.due_at <= now && (workspace.is_none() || stored.workspace == workspace))
            .cloned()
            .collect();
        due.sort_by_key(|stored| (stored.due_at, stored.seq));
        due.truncate(limit);
        Ok(due)
    }

    async fn settle(&self, effect: &StoredEffect) -> PortResult<()> {
        let mut state = locked(&self.state);
        let outbox = match effect.workspace {
            Some(_) => &mut state.outbox,
            None => &mut state.directory_outbox,
        };
        if outbox.get(&effect.seq).is_some_and(|stored| stored.workspace == effect.workspace) {
            outbox.remove(&effect.seq);
        }
        Ok(())
    }

    async fn postpone(&self, effect: &StoredEffect, due_at: Timestamp) -> PortResult<()> {
        let mut state = locked(&self.state);
        let outbox = match effect.workspace {
            Some(_) => &mut state.outbox,
            None => &mut state.directory_outbox,
        };
        if let Some(stored) =
            outbox.get_mut(&effect.seq).filter(|stored| stored.workspace == effect.workspace)
        {
            (stored.attempts, stored.due_at) = (stored.attempts + 1, due_at);
        }
        Ok(())
    }

    async fn sweep_expired(&self, before: Timestamp, limit: usize) -> PortResult<u64> {
        let limit = checked(limit)?;
        let mut state = locked(&self.state);
        let tables = &mut state.tables;
        let mut gone = 0;
        macro_rules! sweep {
            ($table:ident) => {
                let mut old: Vec<_> =
                    tables.$table.iter().filter(|(_, row)| row.expires_at < before).collect();
                old.sort_by_key(|(_, row)| row.expires_at);
                let keys: Vec<_> = old.into_iter().take(limit).map(|(key, _)| *key).collect();
                for key in keys {
                    std::sync::Arc::make_mut(&mut tables.$table).remove(&key);
                    gone += 1;
                }
            };
        }
        sweep!(tickets);
        sweep!(grants);
        sweep!(tokens);
        Ok(gone)
    }

    async fn backlog(&self) -> PortResult<u64> {
        let state = locked(&self.state);
        Ok((state.outbox.len() + state.directory_outbox.len()) as u64)
    }

    async fn waiting(&self, workspace: Id<Workspace>, effect: &Effect) -> PortResult<bool> {
        let state = locked(&self.state);
        let mut of = state.outbox.values().filter(|stored| stored.workspace == Some(workspace));
        Ok(of.any(|stored| stored.effect == *effect))
    }
}
