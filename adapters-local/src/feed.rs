//! Live hints within one process.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use burstflare_ports::error::PortResult;
use burstflare_ports::feed::{Feed, Hints};
use burstflare_ports::id::Id;
use burstflare_ports::record::Workspace;
use futures_util::stream;
use tokio::sync::watch;

use crate::tasks::locked;

/// Hints between the tasks of this process. Hints that nobody has read yet are one.
#[derive(Debug, Default)]
pub struct LocalFeed {
    /// Only workspaces that somebody listens to, once the others were noticed.
    workspaces: Mutex<HashMap<Id<Workspace>, watch::Sender<()>>>,
}

#[async_trait]
impl Feed for LocalFeed {
    async fn publish(&self, workspace: Id<Workspace>) -> PortResult<()> {
        let mut workspaces = locked(&self.workspaces);
        if let Some(sender) = workspaces.get(&workspace)
            && sender.send(()).is_err()
        {
            workspaces.remove(&workspace);
        }
        Ok(())
    }

    async fn subscribe(&self, workspace: Id<Workspace>) -> PortResult<Hints> {
        let receiver = {
            let mut workspaces = locked(&self.workspaces);
            workspaces.entry(workspace).or_insert_with(|| watch::Sender::new(())).subscribe()
        };
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok().map(|()| ((), receiver))
        })))
    }
}
