//! Events: what changed in a workspace, in order.

use burstflare_ports::feed::Hints;
use burstflare_ports::record::StoredEvent;

use super::{Caller, ControlPlane};
use crate::domain::permission::{Action, Relation};
use crate::error::Result;

/// Events read at once.
const PAGE: usize = 200;

/// Events behind a place in the sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Oldest first.
    pub items: Vec<StoredEvent>,
    /// Whether there are more already.
    pub more: bool,
}

impl ControlPlane {
    /// Events of the caller's workspace behind `after`.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn events(&self, caller: &Caller, after: u64) -> Result<EventPage> {
        caller.may(Action::Read, Relation::Own)?;
        let items = self.store().events(caller.workspace.id, after, PAGE).await?;
        let more = items.len() == PAGE;
        Ok(EventPage { items, more })
    }

    /// The place in the sequence where now is.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn last_event(&self, caller: &Caller) -> Result<u64> {
        caller.may(Action::Read, Relation::Own)?;
        Ok(self.store().last_event(caller.workspace.id).await?)
    }

    /// Hints that there are new events. Subscribe before reading, then nothing is missed.
    ///
    /// # Errors
    /// When the feed cannot answer.
    pub async fn subscribe(&self, caller: &Caller) -> Result<Hints> {
        caller.may(Action::Read, Relation::Own)?;
        Ok(self.ports().feed.subscribe(caller.workspace.id).await?)
    }
}
