//! The suite of `ports` on the sandbox.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::sandbox::SandboxRuntime;
use burstflare_ports::blob::Blobs;
use burstflare_ports::conformance::{Case, MACHINE_CASES, MachineBench, fresh_seed};
use burstflare_ports::machine::{AgentLink, MachineRuntime};

use crate::Running;
use crate::world::World;

/// The cases.
pub(crate) const CASES: &[Case<dyn MachineBench>] = MACHINE_CASES;

struct Bench {
    world: World,
    runtime: RwLock<SandboxRuntime>,
}

impl Bench {
    fn current(&self) -> Arc<SandboxRuntime> {
        Arc::new(self.runtime.read().expect("nobody panicked").clone())
    }
}

#[async_trait]
impl MachineBench for Bench {
    fn runtime(&self) -> Arc<dyn MachineRuntime> {
        self.current()
    }

    fn agents(&self) -> Arc<dyn AgentLink> {
        self.current()
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::clone(&self.world.blobs)
    }

    async fn reopen(&self) {
        let next = SandboxRuntime::open(self.world.config.clone(), Arc::clone(&self.world.blobs)).await;
        *self.runtime.write().expect("nobody panicked") = next.expect("opens again");
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs one of them in a world of its own.
pub(crate) fn run(case: &'static Case<dyn MachineBench>) -> Running {
    Box::pin(async move {
        let world = World::new().await;
        let runtime = RwLock::new(world.runtime.clone());
        let seed = fresh_seed(std::process::id().into());
        (case.run)(Arc::new(Bench { world, runtime }), seed).await.expect("the sandbox keeps the promise");
    })
}
