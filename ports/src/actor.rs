//! Session actors: one writer per session, woken by name.

use async_trait::async_trait;

use crate::error::PortResult;
use crate::id::Id;
use crate::record::{Session, Workspace};

/// Wakes session actors; the host calls [`crate::drive::SessionActor`].
#[async_trait]
pub trait Actors: Send + Sync + 'static {
    /// Lets the session's actor look at its record soon. Waking twice is waking once; a wake during a look leads
    /// to another look.
    async fn wake(&self, workspace: Id<Workspace>, session: Id<Session>) -> PortResult<()>;
}
