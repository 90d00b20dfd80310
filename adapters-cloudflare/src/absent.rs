//! Stands where a port has no adapter here yet: every call answers `Unsupported`, which the API shows as 501.

use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::actor::Actors;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::{
    AgentLink, AgentTarget, Epoch, Isolation, LayerRef, MachineKey, MachineOwner, MachineRuntime,
    MachineSpec, MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::mail::{Mail, Mailer};
use burstflare_ports::record::{Session, Workspace};
use burstflare_ports::stream::Body;

/// A port without an adapter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Absent;

fn absent<T>(operation: &'static str) -> PortResult<T> {
    Err(PortError::new(ErrorKind::Unsupported, operation, "this deployment does not offer that yet"))
}

#[async_trait]
impl Actors for Absent {
    async fn wake(&self, _: Id<Workspace>, _: Id<Session>) -> PortResult<()> {
        absent("actors.wake")
    }
}

#[async_trait]
impl Mailer for Absent {
    async fn send(&self, _: &Mail) -> PortResult<()> {
        absent("mail.send")
    }
    fn proves_addresses(&self) -> bool {
        false
    }
}

#[async_trait]
impl MachineRuntime for Absent {
    fn profile(&self) -> RuntimeProfile {
        RuntimeProfile {
            name: "none".to_owned(),
            isolation: Isolation::Container,
            network: "none".to_owned(),
            limits: std::collections::BTreeMap::new(),
            warnings: vec!["No machine runtime is configured: sessions cannot be started.".to_owned()],
        }
    }
    async fn start(&self, _: MachineSpec) -> PortResult<Started> {
        absent("machine.start")
    }
    async fn inspect(&self, _: MachineKey) -> PortResult<Option<MachineStatus>> {
        absent("machine.inspect")
    }
    async fn seal(&self, _: MachineKey, _: Epoch) -> PortResult<()> {
        absent("machine.seal")
    }
    async fn stop(&self, _: MachineKey, _: Epoch, _: Duration) -> PortResult<Stopped> {
        absent("machine.stop")
    }
    async fn destroy(&self, _: MachineKey, _: Epoch) -> PortResult<()> {
        absent("machine.destroy")
    }
    async fn list(&self, _: Option<MachineOwner>, _: usize) -> PortResult<Vec<MachineStatus>> {
        absent("machine.list")
    }
    async fn prepare(&self, _: &LayerRef) -> PortResult<()> {
        absent("machine.prepare")
    }
}

#[async_trait]
impl AgentLink for Absent {
    async fn send(
        &self,
        _: &AgentTarget,
        _: http::Request<Body>,
        _: Duration,
    ) -> PortResult<http::Response<Body>> {
        absent("agent.send")
    }
}
