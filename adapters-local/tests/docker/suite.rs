//! The suite of `ports` on containers.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_local::docker::DockerRuntime;
use burstflare_ports::blob::Blobs;
use burstflare_ports::conformance::{Case, MachineBench, fresh_seed};
use burstflare_ports::machine::{AgentLink, MachineRuntime};

use crate::Running;
use crate::world::World;

struct Bench {
    world: World,
    runtime: RwLock<DockerRuntime>,
}

impl Bench {
    fn current(&self) -> Arc<DockerRuntime> {
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
        let next = self.world.opened_again().await;
        *self.runtime.write().expect("nobody panicked") = next;
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs one case in a world of its own, which has to be empty afterwards.
pub(crate) fn run(case: &'static Case<dyn MachineBench>) -> Running {
    Box::pin(async move {
        let world = World::new().await;
        let runtime = RwLock::new(world.runtime.clone());
        let bench = Arc::new(Bench { world, runtime });
        let seed = fresh_seed(std::process::id().into());
        (case.run)(Arc::<Bench>::clone(&bench), seed).await.expect("containers keep the promise");
        assert_eq!(bench.world.objects(), Vec::<String>::new(), "what is left on the engine");
        assert_eq!(bench.world.folders(), 0, "what is left of machines' folders");
    })
}
