//! The runtime: operations on machines, each by turns.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::blob::Blobs;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    AgentLink, AgentTarget, Enforcement, Epoch, Isolation, LayerRef, MachineKey, MachineOwner,
    MachineRuntime, MachineSpec, MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::stream::Body;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;

use super::config::DockerConfig;
use super::engine::Engine;
use super::labels::Deployment;
use super::record::{self, Folder};
use super::{agent, operations, probe};
use crate::machine::egress::{self, Egress};
use crate::machine::link::{self, Line};
use crate::machine::tools::{self, ToolFolder};
use crate::machine::turns::Turns;
use crate::sandbox::runtime::defect;
use crate::sandbox::{Check, failed};

/// Machines as containers of this host's engine. Clones share everything.
#[derive(Clone)]
pub struct DockerRuntime {
    inner: Arc<Inner>,
}

/// What the clones share.
pub(super) struct Inner {
    pub config: DockerConfig,
    pub deployment: Deployment,
    pub engine: Engine,
    pub machines: PathBuf,
    pub agent: PathBuf,
    pub tools: Vec<ToolFolder>,
    pub egress: Arc<Egress>,
    pub blobs: Arc<dyn Blobs>,
    turns: Turns,
    checks: Vec<Check>,
    slots: Mutex<HashMap<MachineOwner, Arc<Slot>>>,
}

/// What this server holds of one machine, for as long as it knows it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Operations on a machine take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// What carries calls to its agent.
    pub line: Arc<Line>,
    /// Whether this server gave it an empty disk and has let nobody write to it.
    pub untouched: AtomicBool,
    way_out: Mutex<Option<Task>>,
}

/// Ends a task with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Slot {
    /// Answers what the machine asks of its way out, in the place of who did so before.
    pub(super) fn serve_way_out(&self, inner: &Inner, listener: UnixListener) -> PortResult<()> {
        let listener = tokio::net::UnixListener::from_std(listener)
            .map_err(failed("machine.egress", "cannot serve the machine's way out"))?;
        let task = Task(tokio::spawn(egress::serve(listener, Arc::clone(&inner.egress))));
        *self.way_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(())
    }

    /// Its life is over.
    pub(super) fn ended(&self) {
        self.line.connections.clear();
        self.untouched.store(false, Ordering::Release);
        self.way_out.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl std::fmt::Debug for DockerRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerRuntime").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl DockerRuntime {
    /// Finds the engine and the agent, and takes up the machines that run already. Must be called within a tokio runtime;
    /// one server at a time uses a data folder.
    ///
    /// # Errors
    /// `Unsupported` where no engine answers or no agent is there that runs in any image; `Conflict` where the data folder
    /// belongs to the process sandbox; otherwise what the host answers.
    pub async fn open(config: DockerConfig, blobs: Arc<dyn Blobs>) -> PortResult<Self> {
        const OPEN: &str = "docker.open";
        let agent = agent::find(&config.agent)?;
        let machines = config.data_dir.join("machines");
        record::private_folder(&machines).map_err(failed(OPEN, "cannot make the machines' folder"))?;
        record::refuse_sandbox(&machines)?;
        let deployment = record::deployment(&config.data_dir)?;
        let engine = Engine::connect(&config.socket, deployment.clone()).await?;
        let mut checks = vec![probe::engine(&engine.facts), probe::agent(&agent)];
        for image in config.images.values() {
            checks.push(probe::image(&engine, image).await?);
        }
        let inner = Arc::new(Inner {
            tools: tools::find(&config.tools)?,
            egress: Arc::new(Egress::new(config.egress.clone())),
            turns: Turns::new(),
            slots: Mutex::default(),
            deployment,
            engine,
            machines,
            agent,
            blobs,
            checks,
            config,
        });
        inner.take_up().await?;
        Ok(Self { inner })
    }

    /// What was found out about this host, line by line, for doctor. Starts nothing.
    pub async fn probe(config: &DockerConfig) -> Vec<Check> {
        probe::checks(config).await
    }

    /// What was found when this runtime was opened.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.inner.checks
    }

    /// Runs an operation in the machine's turn, to its end: a caller that goes away interrupts nothing half done.
    async fn in_turn<T, F>(
        &self,
        owner: MachineOwner,
        operation: impl FnOnce(Arc<Inner>, Arc<Slot>) -> F + Send + 'static,
    ) -> PortResult<T>
    where
        T: Send + 'static,
        F: Future<Output = PortResult<T>> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let slot = inner.slot(owner);
        let turn: OwnedMutexGuard<()> = Arc::clone(&slot.turn).lock_owned().await;
        let task = tokio::spawn(async move {
            let outcome = operation(inner, slot).await;
            drop(turn);
            outcome
        });
        task.await.map_err(defect)?
    }
}

impl Inner {
    fn slot(&self, owner: MachineOwner) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(owner).or_default())
    }

    /// Forgets a machine that is gone, unless somebody waits for a turn with it.
    fn forget(&self, owner: MachineOwner) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.get(&owner).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&owner);
        }
    }

    pub(super) fn folder(&self, owner: MachineOwner) -> Option<Folder> {
        Folder::find(&self.machines, owner)
    }

    /// Takes up the machines that an earlier server started: nothing of them has to be held but their way out.
    async fn take_up(self: &Arc<Self>) -> PortResult<()> {
        for found in self.engine.containers(None).await? {
            let owner = found.machine.owner;
            let Some(folder) = self.folder(owner).filter(|_| found.running) else { continue };
            let listening = egress::listen(&folder.path)
                .map_err(failed("machine.egress", "cannot listen for the machine's way out"));
            match listening.and_then(|listener| self.slot(owner).serve_way_out(self, listener)) {
                Ok(()) => {
                    tracing::info!(machine = %owner, epoch = found.epoch, "took up a running container");
                }
                Err(error) => tracing::error!(machine = %owner, %error, "the machine has no way out"),
            }
        }
        Ok(())
    }

    /// What is known of machines, of all or of one: what their folders say and what the engine has.
    async fn statuses(&self, owner: Option<MachineOwner>) -> PortResult<BTreeMap<String, MachineStatus>> {
        let containers = self.engine.containers(owner).await?;
        let owners = match owner {
            Some(owner) => vec![owner],
            None => record::owners(&self.machines)?,
        };
        let mut all = BTreeMap::new();
        for folder in owners.into_iter().filter_map(|owner| self.folder(owner)) {
            let status = MachineStatus {
                machine: folder.key,
                epoch: record::epoch(&folder),
                alive: false,
                disk_whole: record::whole(&folder).is_some(),
            };
            all.insert(folder.key.owner.to_string(), status);
        }
        let stray = |machine| MachineStatus { machine, epoch: 0, alive: false, disk_whole: false };
        for found in containers {
            let status = all.entry(found.machine.owner.to_string()).or_insert_with(|| stray(found.machine));
            status.alive |= found.running;
            status.epoch = status.epoch.max(found.epoch);
        }
        if owner.is_none() {
            for found in self.engine.volumes(None).await? {
                all.entry(found.machine.owner.to_string()).or_insert_with(|| stray(found.machine));
            }
        }
        Ok(all)
    }
}

#[async_trait]
impl MachineRuntime for DockerRuntime {
    fn profile(&self) -> RuntimeProfile {
        let facts = &self.inner.engine.facts;
        let held = |holds| if holds { Enforcement::Enforced } else { Enforcement::None };
        let limits = [
            ("cpu", held(facts.cpu)),
            ("memory", held(facts.memory)),
            ("pids", held(facts.pids)),
            ("disk", Enforcement::None),
        ];
        let loose = limits.iter().filter(|(_, held)| *held == Enforcement::None);
        let warnings = loose
            .map(|(name, _)| format!("the {name} of a session is not bounded by this Docker engine"))
            .collect();
        RuntimeProfile {
            name: "docker".to_owned(),
            isolation: Isolation::Container,
            network: "proxy".to_owned(),
            limits: limits.into_iter().map(|(name, held)| (name.to_owned(), held)).collect(),
            warnings,
        }
    }

    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        // Before the machine's own turn: who waits here keeps nobody from stopping it.
        let turn = self.inner.turns.take().await?;
        self.in_turn(spec.machine.owner, move |inner, slot| operations::start(inner, slot, spec, turn)).await
    }

    async fn inspect(&self, machine: MachineKey) -> PortResult<Option<MachineStatus>> {
        let found = self.inner.statuses(Some(machine.owner)).await?;
        Ok(found.into_values().find(|status| status.machine == machine))
    }

    async fn seal(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.in_turn(machine.owner, move |inner, slot| operations::seal(inner, slot, machine, epoch)).await
    }

    async fn stop(&self, machine: MachineKey, epoch: Epoch, grace: Duration) -> PortResult<Stopped> {
        self.in_turn(machine.owner, move |inner, slot| operations::stop(inner, slot, machine, epoch, grace))
            .await
    }

    async fn destroy(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.in_turn(machine.owner, move |inner, slot| operations::destroy(inner, slot, machine, epoch))
            .await?;
        self.inner.forget(machine.owner);
        Ok(())
    }

    async fn list(&self, after: Option<MachineOwner>, limit: usize) -> PortResult<Vec<MachineStatus>> {
        let after = after.map(|owner| owner.to_string());
        let all = self.inner.statuses(None).await?;
        let rest = all.into_iter().filter(|(owner, _)| after.as_ref().is_none_or(|after| owner > after));
        Ok(rest.map(|(_, status)| status).take(limit.min(200)).collect())
    }

    /// Layers are put in by the agent at each start with a fresh disk; there is nothing to make ready.
    async fn prepare(&self, layer: &LayerRef) -> PortResult<()> {
        match self.inner.blobs.head(&layer.blob).await? {
            Some(_) => Ok(()),
            None => {
                Err(PortError::new(ErrorKind::NotFound, "machine.prepare", "the layer's archive is gone"))
            }
        }
    }
}

#[async_trait]
impl AgentLink for DockerRuntime {
    async fn send(
        &self,
        target: &AgentTarget,
        request: http::Request<Body>,
        deadline: Duration,
    ) -> PortResult<http::Response<Body>> {
        let owner = target.machine.owner;
        let slot = self.inner.slot(owner);
        if matches!(*request.method(), http::Method::PUT | http::Method::POST) {
            slot.untouched.store(false, Ordering::Release);
        }
        let run = record::run_folder(&self.inner.machines.join(owner.to_string()));
        link::send(&slot.line, &run, target, request, deadline).await
    }
}
