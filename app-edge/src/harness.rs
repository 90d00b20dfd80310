//! A whole control plane in this process: for tests, and as the example of how one is wired.
//!
//! Records, blobs and queues lie in a temporary folder. Without a machine runtime sessions cannot start: that is an
//! error that says so, never a pretended machine.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use burstflare_adapters_local::actors::LocalActors;
use burstflare_adapters_local::background::TokioBackground;
use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_adapters_local::cache::ProcessCache;
use burstflare_adapters_local::clock::{OsEntropy, SystemClock};
use burstflare_adapters_local::feed::LocalFeed;
use burstflare_adapters_local::limit::MemoryRateLimiter;
use burstflare_adapters_local::mail::ConsoleMailer;
use burstflare_adapters_local::queue::{QueueOptions, SqliteQueue};
use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase, SqliteStore};
use burstflare_adapters_local::workflow::{SqliteWorkflows, WorkflowOptions};
use burstflare_core::service::Ports;
use burstflare_core::{Config, ControlPlane, Registration};
use burstflare_ports::clock::Clock;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    AgentLink, AgentTarget, Epoch, Isolation, LayerRef, MachineKey, MachineOwner, MachineRuntime,
    MachineSpec, MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::stream::Body;
use tempfile::TempDir;

use crate::{EdgeConfig, router};

/// What a harness is made of.
pub struct Parts {
    /// Who may make an account.
    pub registration: Registration,
    /// Plan of new workspaces.
    pub plan: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Machines.
    pub runtime: Arc<dyn MachineRuntime>,
    /// Calls to their agents.
    pub agents: Arc<dyn AgentLink>,
    /// How the edge is reached.
    pub edge: EdgeConfig,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            registration: Registration::Open,
            plan: "local".to_owned(),
            clock: Arc::new(SystemClock),
            runtime: Arc::new(NoMachines),
            agents: Arc::new(NoMachines),
            edge: EdgeConfig::dev(8787),
        }
    }
}

/// A running control plane with its router.
pub struct Harness {
    plane: ControlPlane,
    router: Router,
    actors: LocalActors,
    queue: SqliteQueue,
    workflows: SqliteWorkflows,
    background: Arc<TokioBackground>,
    database: SqliteDatabase,
    _folder: TempDir,
}

impl Harness {
    /// A control plane for `dev`, without machines.
    ///
    /// # Errors
    /// What the file system or SQLite answers.
    pub async fn start() -> PortResult<Self> {
        Self::with(Parts::default()).await
    }

    /// A control plane of these parts.
    ///
    /// # Errors
    /// What the file system or SQLite answers.
    pub async fn with(parts: Parts) -> PortResult<Self> {
        let clock = parts.clock;
        let folder = tempfile::tempdir().map_err(|error| {
            PortError::new(ErrorKind::Unavailable, "harness.start", "no temporary folder").with_source(error)
        })?;
        let data = DataFolder::open(folder.path())?;
        let database = SqliteDatabase::open(&data, clock.now()).await?;
        let actors = LocalActors::new(Arc::clone(&clock), 32);
        let queue = SqliteQueue::new(database.clone(), Arc::clone(&clock), QueueOptions::default());
        let workflows =
            SqliteWorkflows::new(database.clone(), Arc::clone(&clock), WorkflowOptions::default());
        let background = Arc::new(TokioBackground::new(1_000));
        let ports = Ports {
            store: Arc::new(SqliteStore::new(database.clone())),
            blobs: Arc::new(FsBlobs::open(folder.path().join("blobs"))?),
            queue: Arc::new(queue.clone()),
            workflows: Arc::new(workflows.clone()),
            actors: Arc::new(actors.clone()),
            runtime: parts.runtime,
            agents: parts.agents,
            feed: Arc::new(LocalFeed::default()),
            cache: Arc::new(ProcessCache::new(Arc::clone(&clock), 1 << 20)),
            limiter: Arc::new(MemoryRateLimiter::new(Arc::clone(&clock), 10_000)),
            mailer: Arc::new(ConsoleMailer::new(Box::new(io::sink()))),
            clock,
            entropy: Arc::new(OsEntropy),
            background: background.clone(),
        };
        let config = Config {
            registration: parts.registration,
            master_key: Secret::new([7; 32]),
            earlier_master_keys: Vec::new(),
            plan: parts.plan,
        };
        let plane = ControlPlane::new(ports, config);
        // Who calls back is made first and given its counterpart now.
        actors.run(Arc::new(plane.clone()));
        queue.run(Arc::new(plane.clone()));
        workflows.run(Arc::new(plane.clone())).await?;
        let router = router(plane.clone(), parts.edge);
        Ok(Self { plane, router, actors, queue, workflows, background, database, _folder: folder })
    }

    /// The use cases.
    #[must_use]
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The router, for oneshot requests or to be served.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Ends everything that runs and closes the records.
    pub async fn stop(self) {
        let deadline = Duration::from_secs(5);
        self.queue.shutdown(deadline).await;
        self.workflows.shutdown(deadline).await;
        self.actors.shutdown(deadline).await;
        self.background.shutdown(deadline).await;
        self.database.close().await;
    }
}

/// The runtime of a deployment that has none.
#[derive(Debug, Clone, Copy)]
pub struct NoMachines;

fn none<T>(operation: &'static str) -> PortResult<T> {
    Err(PortError::new(ErrorKind::Unavailable, operation, "no machine runtime configured"))
}

#[async_trait]
impl MachineRuntime for NoMachines {
    fn profile(&self) -> RuntimeProfile {
        RuntimeProfile {
            name: "none".to_owned(),
            isolation: Isolation::Sandbox,
            network: "none".to_owned(),
            limits: BTreeMap::new(),
            warnings: vec!["No machine runtime is configured: sessions cannot start.".to_owned()],
        }
    }

    async fn start(&self, _spec: MachineSpec) -> PortResult<Started> {
        none("runtime.start")
    }

    async fn inspect(&self, _machine: MachineKey) -> PortResult<Option<MachineStatus>> {
        Ok(None)
    }

    async fn seal(&self, _machine: MachineKey, _epoch: Epoch) -> PortResult<()> {
        none("runtime.seal")
    }

    async fn stop(&self, _machine: MachineKey, _epoch: Epoch, _grace: Duration) -> PortResult<Stopped> {
        Ok(Stopped::Absent)
    }

    async fn destroy(&self, _machine: MachineKey, _epoch: Epoch) -> PortResult<()> {
        Ok(())
    }

    async fn list(&self, _after: Option<MachineOwner>, _limit: usize) -> PortResult<Vec<MachineStatus>> {
        Ok(Vec::new())
    }

    async fn prepare(&self, _layer: &LayerRef) -> PortResult<()> {
        none("runtime.prepare")
    }
}

#[async_trait]
impl AgentLink for NoMachines {
    async fn send(
        &self,
        _target: &AgentTarget,
        _request: axum::http::Request<Body>,
        _deadline: Duration,
    ) -> PortResult<axum::http::Response<Body>> {
        none("agent.send")
    }
}
