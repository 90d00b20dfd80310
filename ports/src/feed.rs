//! Live fan-out: tells listeners that the store's event sequence has grown. The events themselves are read there, so
//! a lost hint costs time and never an event.

use std::pin::Pin;

use async_trait::async_trait;
use futures_util::Stream;

use crate::error::PortResult;
use crate::id::Id;
use crate::record::Workspace;

/// Hints that there is something new. Several changes may be one hint.
pub type Hints = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// Carries hints between those who commit and those who listen.
#[async_trait]
pub trait Feed: Send + Sync + 'static {
    /// Hints everybody who listens to the workspace; never waits for them.
    async fn publish(&self, workspace: Id<Workspace>) -> PortResult<()>;
    /// Listens from now on.
    async fn subscribe(&self, workspace: Id<Workspace>) -> PortResult<Hints>;
}
