mod apply;
mod guard;
mod read;
mod tables;

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;

use self::tables::Tables;
use super::locked;
use crate::error::{ErrorKind, PortError, PortResult};
use crate::id::Id;
use crate::record::{AuditEntry, StoredAudit, StoredEffect, StoredEvent, Workspace};
use crate::store::{ChangeSet, CommitError, Family, PAGE_LIMIT, Store};

/// Records in memory: every rule of the port is looked at, and what production would let pass is refused too.
///
/// A commit works on a copy of the tables it touches and swaps them in at the end, so a refused one leaves no trace.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    events: Vec<(Id<Workspace>, StoredEvent)>,
    audit: Vec<(Id<Workspace>, StoredAudit)>,
    directory_audit: Vec<(Option<Id<Workspace>>, AuditEntry)>,
    outbox: BTreeMap<u64, StoredEffect>,
    directory_outbox: BTreeMap<u64, StoredEffect>,
    /// The last number that was given: numbers never come back.
    numbered: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The audit lines of directory commits, oldest first: for tests, no port reads them yet.
    #[must_use]
    pub fn directory_audit(&self) -> Vec<(Option<Id<Workspace>>, AuditEntry)> {
        locked(&self.state).directory_audit.clone()
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// What cannot fail any more: the change holds.
    fn append(&mut self, change: &ChangeSet) {
        let workspace = match change.family {
            Family::Directory => None,
            Family::Workspace(id) => Some(id),
        };
        for (effect, due_at) in &change.outbox {
            let seq = self.number();
            let stored =
                StoredEffect { seq, workspace, effect: effect.clone(), attempts: 0, due_at: *due_at };
            let outbox = if workspace.is_some() { &mut self.outbox } else { &mut self.directory_outbox };
            outbox.insert(seq, stored);
        }
        if let Some(workspace) = workspace {
            for event in &change.events {
                let seq = self.number();
                self.events.push((workspace, StoredEvent { seq, event: event.clone() }));
            }
        }
        for (seen_by, entry) in &change.audit {
            if let Some(workspace) = workspace {
                let seq = self.number();
                self.audit.push((workspace, StoredAudit { seq, entry: entry.clone() }));
            } else {
                self.directory_audit.push((*seen_by, entry.clone()));
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, change: &ChangeSet) -> Result<(), CommitError> {
        change.check()?;
        let mut state = locked(&self.state);
        if let Some(guard) = change.guards.iter().find(|guard| !state.tables.holds(change.family, guard)) {
            return Err(CommitError::Refused(guard.clone()));
        }
        let mut tables = state.tables.clone();
        tables.apply(change)?;
        state.tables = tables;
        state.append(change);
        Ok(())
    }

    async fn ping(&self) -> PortResult<()> {
        Ok(())
    }
}

/// A page, or how many of a list, is asked for within the port's limit.
fn checked(limit: usize) -> PortResult<usize> {
    if (1..=PAGE_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        Err(PortError::new(ErrorKind::Invalid, "store.read", format!("a page of {limit} items")))
    }
}
