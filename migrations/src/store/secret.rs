use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{SecretEntry, SecretKey, Workspace};
use burstflare_ports::store::{Page, Secrets};
use burstflare_ports::text::VariableName;

use super::{SqlStore, newest_first, params};
use crate::database::Database;
use crate::table::{SECRET_BY_NAME, SECRET_KEY, SECRET_KEYS_OF_OTHERS, SECRETS};

#[async_trait]
impl<D: Database> Secrets for SqlStore<D> {
    async fn secret_key(&self, workspace: Id<Workspace>) -> PortResult<Option<SecretKey>> {
        self.one(SECRET_KEY, params![workspace]).await
    }

    async fn secret_by_name(
        &self,
        workspace: Id<Workspace>,
        name: &VariableName,
    ) -> PortResult<Option<SecretEntry>> {
        self.one(SECRET_BY_NAME, params![workspace, name]).await
    }

    async fn secrets(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<SecretEntry>>,
        limit: usize,
    ) -> PortResult<Page<SecretEntry>> {
        self.page(SECRETS, params![workspace, newest_first(after)], limit).await
    }

    async fn secret_keys_of_others(&self, master: &str, limit: usize) -> PortResult<Page<SecretKey>> {
        self.page(SECRET_KEYS_OF_OTHERS, params![master.to_owned()], limit).await
    }
}
