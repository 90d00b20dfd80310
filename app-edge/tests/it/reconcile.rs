//! Reconcile where machines cannot be asked for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_app_edge::harness::{Harness, NoMachines};
use burstflare_core::service::Register;
use burstflare_core::{Config, ControlPlane, Ports};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    Epoch, LayerRef, MachineKey, MachineOwner, MachineRuntime, MachineSpec, MachineStatus, RuntimeProfile,
    Started, Stopped,
};
use burstflare_ports::record::Origin;
use burstflare_ports::secret::Secret;

/// A runtime whose machines cannot be listed, for this reason.
struct Unlisted(ErrorKind);

#[async_trait]
impl MachineRuntime for Unlisted {
    fn profile(&self) -> RuntimeProfile {
        NoMachines.profile()
    }

    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        NoMachines.start(spec).await
    }

    async fn inspect(&self, machine: MachineKey) -> PortResult<Option<MachineStatus>> {
        NoMachines.inspect(machine).await
    }

    async fn seal(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        NoMachines.seal(machine, epoch).await
    }

    async fn stop(&self, machine: MachineKey, epoch: Epoch, grace: Duration) -> PortResult<Stopped> {
        NoMachines.stop(machine, epoch, grace).await
    }

    async fn destroy(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        NoMachines.destroy(machine, epoch).await
    }

    async fn list(&self, _after: Option<MachineOwner>, _limit: usize) -> PortResult<Vec<MachineStatus>> {
        Err(PortError::new(self.0, "machine.list", "not asked"))
    }

    async fn prepare(&self, layer: &LayerRef) -> PortResult<()> {
        NoMachines.prepare(layer).await
    }
}

#[tokio::test]
async fn a_runtime_that_cannot_list_machines_holds_nothing_else_up() {
    let harness = Harness::start().await.expect("started");
    let plane = harness.plane();
    let wish = Register { email: "e@example.com".parse().expect("an address"), code: None };
    let token = plane.register(wish, Origin::default()).await.expect("registered").signed_in.tokens.access;
    let caller = plane.authenticate(token.expose(), Origin::default()).await.expect("in");
    let value = Secret::new("kept".to_owned());
    plane.set_secret(&caller, "A", &value).await.expect("set");
    // The same records, with a new master key, on such a runtime.
    let with = |kind: ErrorKind, earlier: &[u8]| {
        let ports = Ports { runtime: Arc::new(Unlisted(kind)), ..plane.ports().clone() };
        let config = Config {
            master_key: Secret::new([9; 32]),
            earlier_master_keys: earlier.iter().map(|key| Secret::new([*key; 32])).collect(),
            ..plane.config().clone()
        };
        ControlPlane::new(ports, config)
    };
    let report =
        with(ErrorKind::Unsupported, &[7]).reconcile().await.expect("what it does not have is passed over");
    assert_eq!(report.strays, 0);
    with(ErrorKind::Unsupported, &[]).set_secret(&caller, "B", &value).await.expect("the rest was done");
    // A runtime that has machines and does not answer is another matter.
    let error = with(ErrorKind::Unavailable, &[7]).reconcile().await.expect_err("somebody has to hear of it");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    harness.stop().await;
}
