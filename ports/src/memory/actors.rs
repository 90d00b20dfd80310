use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::locked;
use crate::actor::Actors;
use crate::error::PortResult;
use crate::id::Id;
use crate::record::{Session, Workspace};
use crate::time::Timestamp;

type Name = (Id<Workspace>, Id<Session>);

/// Sessions that were woken, or asked to be looked at. Whoever drives takes one, calls
/// [`crate::drive::SessionActor::tend`], and hands its answer to [`MemoryActors::ask`].
#[derive(Debug, Default)]
pub struct MemoryActors {
    due: Mutex<BTreeMap<Name, Timestamp>>,
}

impl MemoryActors {
    /// Takes a session that is due, the one that is due longest.
    pub fn take_due(&self, now: Timestamp) -> Option<Name> {
        let mut due = locked(&self.due);
        let (_, name) = due.iter().filter(|(_, at)| **at <= now).map(|(name, at)| (*at, *name)).min()?;
        due.remove(&name);
        Some(name)
    }

    /// The sessions that are due now, in the order of their names: for who wants to choose.
    #[must_use]
    pub fn all_due(&self, now: Timestamp) -> Vec<Name> {
        locked(&self.due).iter().filter(|(_, at)| **at <= now).map(|(name, _)| *name).collect()
    }

    /// Takes this session; answers whether it waited.
    pub fn take(&self, name: Name) -> bool {
        locked(&self.due).remove(&name).is_some()
    }

    /// Notes when a session wants to be looked at without being woken. A wake that came meanwhile stays.
    pub fn ask(&self, name: Name, at: Timestamp) {
        locked(&self.due).entry(name).and_modify(|due| *due = at.min(*due)).or_insert(at);
    }

    /// When the next session is due; sessions that were woken are due since ever.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        locked(&self.due).values().min().copied()
    }

    /// Forgets everything, as the end of a process does.
    pub fn crash(&self) {
        locked(&self.due).clear();
    }
}

#[async_trait]
impl Actors for MemoryActors {
    async fn wake(&self, workspace: Id<Workspace>, session: Id<Session>) -> PortResult<()> {
        self.ask((workspace, session), Timestamp::from_millis(i64::MIN));
        Ok(())
    }
}
