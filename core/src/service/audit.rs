//! The audit log, read.

use burstflare_ports::record::StoredAudit;

use super::{Caller, ControlPlane, List, PageQuery};
use crate::domain::permission::{Action, Relation};
use crate::error::Result;

impl ControlPlane {
    /// The audit lines of the caller's workspace, newest first.
    ///
    /// # Errors
    /// `Forbidden` below admin.
    pub async fn audit(&self, caller: &Caller, page: PageQuery<u64>) -> Result<List<StoredAudit, u64>> {
        caller.may(Action::AuditRead, Relation::Own)?;
        let found = self.store().audit(caller.workspace.id, page.after, page.limit).await?;
        let next = if found.more { found.items.last().map(|line| line.seq) } else { None };
        Ok(List { items: found.items, next })
    }
}
