//! Ports to adapters, and core to both.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use burstflare_adapters_local::actors::LocalActors;
use burstflare_adapters_local::background::TokioBackground;
use burstflare_adapters_local::cache::ProcessCache;
use burstflare_adapters_local::clock::{OsEntropy, SystemClock};
use burstflare_adapters_local::feed::LocalFeed;
use burstflare_adapters_local::limit::MemoryRateLimiter;
use burstflare_adapters_local::mail::ConsoleMailer;
use burstflare_adapters_local::queue::{QueueOptions, SqliteQueue};
use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase, SqliteStore};
use burstflare_adapters_local::workflow::{SqliteWorkflows, WorkflowOptions};
use burstflare_core::{Config, ControlPlane, Ports, Registration};
use burstflare_ports::clock::Clock;
use burstflare_ports::error::PortError;

use super::blobs::{BlobsHome, BlobsPlace};
use super::{MachineConfig, Machines, Status, earlier_master_keys, failure, master_key};
use crate::exit::Failure;

/// Between two looks at what is on its way somewhere, each with a note for doctor.
const RECONCILE: Duration = Duration::from_secs(30);
/// One look of so many is at everything, what rests and runs included.
const EVERYTHING: u64 = 10;
/// Bytes of what was worked out and may be forgotten.
const CACHE: usize = 16 << 20;
/// How long tasks may take to end when the server does.
const DRAIN: Duration = Duration::from_secs(5);

/// How the plant is to be built.
#[derive(Debug)]
pub struct Options {
    /// Everything lies below it.
    pub data_dir: PathBuf,
    /// Where the blobs lie.
    pub blobs: BlobsPlace,
    /// Who may make an account.
    pub registration: Registration,
    /// Plan of new workspaces.
    pub plan: &'static str,
    /// The machines.
    pub machines: MachineConfig,
}

/// A control plane with everything it runs on.
pub struct Plant {
    /// The use cases.
    pub plane: ControlPlane,
    /// The machines.
    pub machines: Machines,
    database: SqliteDatabase,
    queue: SqliteQueue,
    workflows: SqliteWorkflows,
    actors: LocalActors,
    blobs: BlobsHome,
    background: Arc<TokioBackground>,
    data_dir: PathBuf,
}

impl Plant {
    /// Opens the data folder and wires everything; nothing runs before [`Plant::begin`].
    ///
    /// # Errors
    /// When the folder is in use or not usable, or the machine cannot isolate sessions.
    pub async fn open(options: Options) -> Result<Self, Failure> {
        let port = |error: PortError| failure(&error);
        let folder = DataFolder::open(&options.data_dir).map_err(port)?;
        let master_key = master_key(folder.path())?;
        let earlier_master_keys = earlier_master_keys(folder.path())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let database = SqliteDatabase::open(&folder, clock.now()).await.map_err(port)?;
        let blobs = BlobsHome::open(&options.blobs, folder.path()).await?;
        let machines = Machines::open(options.machines, blobs.blobs.clone()).await?;
        let queue = SqliteQueue::new(database.clone(), Arc::clone(&clock), QueueOptions::default());
        let workflows =
            SqliteWorkflows::new(database.clone(), Arc::clone(&clock), WorkflowOptions::default());
        let actors = LocalActors::new(Arc::clone(&clock), 64);
        let background = Arc::new(TokioBackground::new(4096));
        let ports = Ports {
            store: Arc::new(SqliteStore::new(database.clone())),
            blobs: blobs.blobs.clone(),
            queue: Arc::new(queue.clone()),
            workflows: Arc::new(workflows.clone()),
            actors: Arc::new(actors.clone()),
            runtime: Arc::clone(&machines.runtime),
            agents: Arc::clone(&machines.agents),
            feed: Arc::new(LocalFeed::default()),
            cache: Arc::new(ProcessCache::new(Arc::clone(&clock), CACHE)),
            limiter: Arc::new(MemoryRateLimiter::new(Arc::clone(&clock), 100_000)),
            mailer: Arc::new(ConsoleMailer::new(Box::new(std::io::stderr()))),
            clock,
            entropy: Arc::new(OsEntropy),
            background: background.clone(),
        };
        let config = Config {
            registration: options.registration,
            master_key,
            earlier_master_keys,
            plan: options.plan.to_owned(),
        };
        let plane = ControlPlane::new(ports, config);
        let data_dir = options.data_dir;
        Ok(Self { plane, machines, database, queue, workflows, actors, blobs, background, data_dir })
    }

    /// Hands core over to what calls it back, takes up what an earlier process left, and keeps reconciling.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn begin(&self, url: &str) -> Result<(), Failure> {
        let port = |error: PortError| failure(&error);
        let core = Arc::new(self.plane.clone());
        self.blobs.begin();
        self.actors.run(core.clone());
        self.queue.run(core.clone());
        self.workflows.run(core).await.map_err(port)?;
        self.plane.reconcile().await.map_err(port)?;
        self.note(url).await;
        self.keep_reconciling(url.to_owned());
        Ok(())
    }

    /// What people should know about where the blobs lie.
    #[must_use]
    pub fn blobs_warning(&self) -> Option<&str> {
        self.blobs.warning.as_deref()
    }

    fn keep_reconciling(&self, url: String) {
        let plane = self.plane.clone();
        let data_dir = self.data_dir.clone();
        let machines = self.machines.clone();
        // Ends with the runtime.
        tokio::spawn(async move {
            let mut reconcile = tokio::time::interval(RECONCILE);
            let mut last = None;
            reconcile.tick().await;
            for look in 1_u64.. {
                reconcile.tick().await;
                let done = if look.is_multiple_of(EVERYTHING) {
                    plane.reconcile().await
                } else {
                    plane.reconcile_in_flight().await
                };
                if let Err(error) = done {
                    tracing::warn!(?error, "reconcile");
                }
                match Status::now(&plane, &machines, &url).await {
                    Ok(status) if last.as_ref() != Some(&status) => {
                        status.write(&data_dir);
                        last = Some(status);
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(?error, "status"),
                }
            }
        });
    }

    async fn note(&self, url: &str) {
        match Status::now(&self.plane, &self.machines, url).await {
            Ok(status) => status.write(&self.data_dir),
            Err(error) => tracing::warn!(?error, "status"),
        }
    }

    /// Lets running work end for a moment and closes the records. What is cut off, the next process continues.
    pub async fn end(self) {
        tokio::join!(
            self.queue.shutdown(DRAIN),
            self.workflows.shutdown(DRAIN),
            self.actors.shutdown(DRAIN),
            self.background.shutdown(DRAIN),
        );
        // Behind those who use them.
        self.blobs.end(DRAIN).await;
        Status::remove(&self.data_dir);
        self.database.close().await;
    }
}
