use async_trait::async_trait;

use super::{older, page};
use crate::error::PortResult;
use crate::id::Id;
use crate::memory::store::{MemoryStore, locked};
use crate::record::{SecretEntry, SecretKey, Workspace};
use crate::store::{Page, Secrets};
use crate::text::VariableName;

#[async_trait]
impl Secrets for MemoryStore {
    async fn secret_key(&self, workspace: Id<Workspace>) -> PortResult<Option<SecretKey>> {
        Ok(locked(&self.state).tables.secret_keys.get(&workspace).cloned())
    }

    async fn secret_by_name(
        &self,
        workspace: Id<Workspace>,
        name: &VariableName,
    ) -> PortResult<Option<SecretEntry>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&SecretEntry| row.workspace == workspace && row.name == *name;
        Ok(tables.secrets.values().find(wanted).cloned())
    }

    async fn secrets(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<SecretEntry>>,
        limit: usize,
    ) -> PortResult<Page<SecretEntry>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&SecretEntry| row.workspace == workspace && older(row.id, after);
        page(tables.secrets.values().rev().filter(wanted).cloned(), limit)
    }

    async fn secret_keys_of_others(&self, master: &str, limit: usize) -> PortResult<Page<SecretKey>> {
        let tables = locked(&self.state).tables.clone();
        page(tables.secret_keys.values().filter(|row| row.master != master).cloned(), limit)
    }
}
