//! What hosts the control plane in these tests: nothing runs by itself but what it leaves to the background.

use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::actor::Actors;
use burstflare_ports::clock::{Background, Task};
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::limit::{RateLimiter, Verdict};
use burstflare_ports::mail::{Mail, Mailer};
use burstflare_ports::queue::{Job, Queue};
use burstflare_ports::record::{Session, Workspace};
use burstflare_ports::workflow::{Run, Workflows};
use tokio::runtime::Handle;

pub(super) struct Host(pub(super) Handle);

#[async_trait]
impl Actors for Host {
    // Each session has a task that looks at it again and again.
    async fn wake(&self, _workspace: Id<Workspace>, _session: Id<Session>) -> PortResult<()> {
        Ok(())
    }
}

#[async_trait]
impl Queue for Host {
    async fn enqueue(&self, _job: &Job, _delay: Duration) -> PortResult<()> {
        Ok(())
    }
}

#[async_trait]
impl Workflows for Host {
    async fn start(&self, _run: Run) -> PortResult<()> {
        Ok(())
    }
}

impl Background for Host {
    fn spawn(&self, task: Task) -> PortResult<()> {
        self.0.spawn(task);
        Ok(())
    }
}

#[async_trait]
impl RateLimiter for Host {
    async fn take(&self, _bucket: &str, _limit: u32, _window: Duration) -> PortResult<Verdict> {
        Ok(Verdict::Allowed)
    }
}

#[async_trait]
impl Mailer for Host {
    async fn send(&self, _mail: &Mail) -> PortResult<()> {
        Ok(())
    }

    fn proves_addresses(&self) -> bool {
        false
    }
}
