//! Machines under faults: whatever happens around the calls of the runtime, retrying them leads where it should, and
//! nothing is left behind.

use std::time::Duration;

use burstflare_adapters_local::sandbox::SandboxRuntime;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    DiskState, Epoch, MachineKey, MachineRuntime as _, MachineSpec, Started, Stopped,
};

use crate::Body as Trial;
use crate::fault::{Faults, at_last};
use crate::world::{World, key, spec};

/// Lives of each machine.
const LIVES: Epoch = 3;
/// For a machine to end.
const GRACE: Duration = Duration::from_millis(200);

pub(crate) fn trials() -> Vec<(&'static str, Trial)> {
    vec![("faults_around_calls_lose_no_disk_and_leave_no_machine", || Box::pin(faulty_lives()))]
}

struct FaultyRuntime<'w> {
    inner: &'w SandboxRuntime,
    faults: Faults,
}

impl FaultyRuntime<'_> {
    /// A start cannot be cloned: it is lost before or behind its effect, or given up in the middle.
    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        let made_up = |kind: ErrorKind| PortError::new(kind, "runtime.start", "made up");
        match self.faults.below(6) {
            0 => Err(made_up(ErrorKind::Unavailable)),
            1 => {
                self.inner.start(spec).await?;
                Err(made_up(ErrorKind::Timeout))
            }
            2 | 3 => {
                let patience = Duration::from_micros(self.faults.below(60_000));
                let started = tokio::time::timeout(patience, self.inner.start(spec)).await;
                started.map_err(|_| made_up(ErrorKind::Timeout))?
            }
            _ => self.inner.start(spec).await,
        }
    }

    async fn seal(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.faults.around("runtime.seal", || self.inner.seal(machine, epoch)).await
    }

    async fn stop(&self, machine: MachineKey, epoch: Epoch) -> PortResult<Stopped> {
        self.faults.around("runtime.stop", || self.inner.stop(machine, epoch, GRACE)).await
    }

    async fn destroy(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.faults.around("runtime.destroy", || self.inner.destroy(machine, epoch)).await
    }
}

async fn faulty_lives() {
    let world = World::new().await;
    for seed in 0..4 {
        let runtime = FaultyRuntime { inner: &world.runtime, faults: Faults::new(seed) };
        let machine = key();
        for life in 1..=LIVES {
            let started = at_last(|| runtime.start(spec(machine, life))).await;
            let wanted = if life == 1 { DiskState::Fresh } else { DiskState::Kept };
            assert_eq!(started.disk, wanted, "seed {seed}, life {life}");
            for earlier in 1..life {
                let found = world.shell_in(machine, life, &format!("cat /workspace/{earlier}")).await;
                assert_eq!(found, earlier.to_string(), "seed {seed}, life {life}");
            }
            world.shell_in(machine, life, &format!("echo {life} > /workspace/{life}; sync")).await;
            at_last(|| runtime.seal(machine, life)).await;
            let status = world.runtime.inspect(machine).await.expect("inspects").expect("known");
            assert!(status.alive && status.disk_whole && status.epoch == life, "{status:?}");
            at_last(|| runtime.stop(machine, life)).await;
            let status = world.runtime.inspect(machine).await.expect("inspects").expect("known");
            assert!(!status.alive && status.disk_whole, "seed {seed}, life {life}: {status:?}");
        }
        at_last(|| runtime.destroy(machine, LIVES)).await;
        let all = world.runtime.list(None, 200).await.expect("lists");
        assert!(all.is_empty(), "seed {seed}: {all:?}");
        assert!(!world.machine_folder(machine).exists(), "seed {seed}: its folder is left");
    }
}
