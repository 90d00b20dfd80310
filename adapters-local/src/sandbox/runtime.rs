//! The runtime: operations on machines, each by turns.

use std::collections::HashMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
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
use tokio::sync::{OwnedMutexGuard, broadcast};

use super::cgroup::Groups;
use super::config::{NetworkMode, SandboxConfig};
use super::idmap::Maps;
use super::layer::Layers;
use super::live::{self, Slot};
use super::probe::{self, Check, CheckState};
use super::process::{self, Process};
use super::record::{self, Folder};
use super::remove::Trash;
use super::users::UserPool;
use super::watch::Notice;
use super::{failed, operations};
use crate::machine::egress::Egress;
use crate::machine::link;
use crate::machine::tools::{self, ToolFolder};
use crate::machine::turns::Turns;

/// Machines as sandboxed processes of this host. Clones share everything.
#[derive(Clone)]
pub struct SandboxRuntime {
    inner: Arc<Inner>,
}

/// What the clones share.
pub(super) struct Inner {
    pub config: SandboxConfig,
    pub machines: PathBuf,
    pub trash: Trash,
    pub root: bool,
    pub exe: OwnedFd,
    pub null: OwnedFd,
    pub users: UserPool,
    pub maps: Maps,
    pub groups: Groups,
    pub tools: Vec<ToolFolder>,
    pub layers: Layers,
    pub egress: Arc<Egress>,
    pub turns: Turns,
    pub notices: broadcast::Sender<Notice>,
    pub checks: Vec<Check>,
    /// Whether layers are shared by mapping their owner; else each machine has a copy.
    pub maps_owners: bool,
    /// Goes with the runtime, and the tasks that hold machines with it.
    pub open: tokio::sync::watch::Sender<()>,
    slots: Mutex<HashMap<MachineOwner, Arc<Slot>>>,
}

impl std::fmt::Debug for SandboxRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxRuntime").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl SandboxRuntime {
    /// Tries out what the kernel allows, takes up the machines that run already, and begins to remove what an earlier
    /// server left to be removed. Must be called within a tokio runtime; one server at a time uses a data folder.
    ///
    /// # Errors
    /// `Unsupported`, with the cure, where the kernel refuses isolation or the configuration asks for what is not
    /// there; `Invalid` for a missing agent or tool folder; otherwise what the host answers.
    pub async fn open(config: SandboxConfig, blobs: Arc<dyn Blobs>) -> PortResult<Self> {
        let inner = blocking(move || Inner::open(config, blobs)).await?;
        let inner = Arc::new(inner);
        for owner in record::owners(&inner.machines)? {
            inner.take_up(owner);
        }
        inner.empty_trash();
        Ok(Self { inner })
    }

    /// What was found out about this host, line by line, for doctor. Needs no runtime, and starts nothing but a trial
    /// that ends before it would run a program.
    ///
    /// # Errors
    /// Where the data folder or the agent cannot be used at all.
    pub async fn probe(config: SandboxConfig) -> PortResult<Vec<Check>> {
        blocking(move || probe::checks(&config)).await
    }

    /// What [`SandboxRuntime::probe`] found when this runtime was opened.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.inner.checks
    }

    /// What is done to machines that reach a watched limit, as it happens. The machine's folder keeps it too.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices.subscribe()
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

/// Runs blocking work.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> PortResult<T> + Send + 'static,
) -> PortResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(defect)?
}

/// An operation that panicked or was cut off by the end of the process.
pub(crate) fn defect(error: tokio::task::JoinError) -> PortError {
    PortError::new(ErrorKind::Internal, "machine", "an operation did not end").with_source(error)
}

impl Inner {
    fn open(config: SandboxConfig, blobs: Arc<dyn Blobs>) -> PortResult<Self> {
        const OPEN: &str = "sandbox.open";
        if config.network == NetworkMode::Pasta {
            return Err(PortError::new(
                ErrorKind::Unsupported,
                OPEN,
                "network pasta is not supported yet: use the egress proxy (the default) or network host",
            ));
        }
        let checks = probe::checks(&config)?;
        if let Some(missing) = checks.iter().find(|check| check.state == CheckState::Missing) {
            let cure = missing.cure.as_deref().unwrap_or_default();
            return Err(PortError::new(
                ErrorKind::Unsupported,
                OPEN,
                format!("this host cannot isolate machines: {}: {}. {cure}", missing.name, missing.detail),
            ));
        }
        let machines = config.data_dir.join("machines");
        record::private_folder(&machines).map_err(failed(OPEN, "cannot make the machines' folder"))?;
        if let Some(owner) = record::owners(&machines)?
            .iter()
            .find(|owner| machines.join(owner.to_string()).join("container.json").exists())
        {
            let context = format!(
                "{owner} is a container: delete the sessions of this data folder with --runtime docker first"
            );
            return Err(PortError::new(ErrorKind::Conflict, OPEN, context));
        }
        let trash =
            Trash::open(config.data_dir.join("trash")).map_err(failed(OPEN, "cannot make the trash"))?;
        let root = rustix::process::geteuid().is_root();
        let taken = record::owners(&machines)?
            .into_iter()
            .filter_map(|owner| Folder::find(&machines, owner)?.host_user())
            .collect::<Vec<_>>();
        let layers =
            Layers::open(config.data_dir.join("layers"), root.then_some(config.users.layers), blobs)?;
        Ok(Self {
            exe: probe::open_agent(&config.agent)?,
            null: probe::open_null()?,
            users: UserPool::new(config.users, taken),
            maps: Maps::default(),
            groups: Groups::detect(),
            tools: tools::find(&config.tools)?,
            layers,
            egress: Arc::new(Egress::new(config.egress.clone())),
            turns: Turns::new(),
            notices: broadcast::channel(256).0,
            maps_owners: checks
                .iter()
                .all(|check| check.name != probe::LAYER_OWNERS || check.state == CheckState::Ok),
            open: tokio::sync::watch::Sender::new(()),
            checks,
            slots: Mutex::default(),
            machines,
            trash,
            root,
            config,
        })
    }

    pub(super) fn slot(&self, owner: MachineOwner) -> Arc<Slot> {
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

    /// Takes up a machine that an earlier server started.
    fn take_up(self: &Arc<Self>, owner: MachineOwner) {
        let Some(folder) = self.folder(owner) else { return };
        let Some(life) = folder.life().filter(|life| life.boot == process::boot_id()) else { return };
        let Some(found) = Process::find(life.pid, life.started) else {
            super::cgroup::remove(&life.groups);
            return;
        };
        let proxy = life.proxied.then(|| self.listen_egress(&folder)).and_then(|listening| {
            listening
                .inspect_err(|error| tracing::error!(machine = %owner, %error, "the machine has no way out"))
                .ok()
        });
        tracing::info!(machine = %owner, epoch = life.epoch, pid = life.pid, "took up a running machine");
        live::hold(self, &self.slot(owner), folder, life, found, proxy);
    }

    /// Removes in the background what was taken out of its place.
    pub(super) fn empty_trash(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = inner.trash.empty() {
                tracing::warn!(%error, "the trash could not be emptied; the next start tries again");
            }
        });
    }

    fn status(&self, folder: &Folder) -> MachineStatus {
        let live = self.slot(folder.key.owner).live().filter(|live| live.process.alive());
        MachineStatus {
            machine: folder.key,
            epoch: folder.epoch(),
            alive: live.is_some(),
            disk_whole: folder.seal().is_some(),
        }
    }
}

#[async_trait]
impl MachineRuntime for SandboxRuntime {
    fn profile(&self) -> RuntimeProfile {
        let inner = &self.inner;
        let mut limits = inner.groups.enforcement();
        limits.entry("disk".to_owned()).or_insert(Enforcement::Watched);
        let mut warnings: Vec<String> = inner
            .checks
            .iter()
            .filter(|check| check.state == CheckState::Degraded)
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        if inner.config.network == NetworkMode::Host {
            warnings.push(
                "machines share the host's network: their ports collide and they reach the host's services"
                    .to_owned(),
            );
        }
        RuntimeProfile {
            name: "sandbox".to_owned(),
            isolation: Isolation::Sandbox,
            network: match inner.config.network {
                NetworkMode::Proxy => "proxy",
                NetworkMode::Host => "host",
                NetworkMode::Pasta => "pasta",
            }
            .to_owned(),
            limits,
            warnings,
        }
    }

    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        let owner = spec.machine.owner;
        // Fetching a layer takes what it takes, and no place among the starts. Its errors are met again below.
        if let Some(layer) = &spec.layer
            && let Err(error) = self.inner.layers.ready(layer).await
        {
            tracing::debug!(machine = %owner, %error, "the layer is not ready");
        }
        // Before the machine's own turn: who waits here keeps nobody from stopping it.
        let turn = self.inner.turns.take().await?;
        self.in_turn(owner, move |inner, slot| operations::start(inner, slot, spec, turn)).await
    }

    async fn inspect(&self, machine: MachineKey) -> PortResult<Option<MachineStatus>> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let folder = inner.folder(machine.owner).filter(|folder| folder.key == machine);
            Ok(folder.map(|folder| inner.status(&folder)))
        })
        .await
    }

    async fn seal(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.in_turn(machine.owner, move |inner, _| operations::seal(inner, machine, epoch)).await
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
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let after = after.map(|owner| owner.to_string());
            Ok(record::owners(&inner.machines)?
                .into_iter()
                .filter(|owner| after.as_ref().is_none_or(|after| owner.to_string() > *after))
                .filter_map(|owner| inner.folder(owner))
                .take(limit.min(200))
                .map(|folder| inner.status(&folder))
                .collect())
        })
        .await
    }

    async fn prepare(&self, layer: &LayerRef) -> PortResult<()> {
        self.inner.layers.ready(layer).await.map(drop)
    }
}

#[async_trait]
impl AgentLink for SandboxRuntime {
    async fn send(
        &self,
        target: &AgentTarget,
        request: http::Request<Body>,
        deadline: Duration,
    ) -> PortResult<http::Response<Body>> {
        let slot = self.inner.slot(target.machine.owner);
        let folder = self.inner.machines.join(target.machine.owner.to_string());
        link::send(&slot.line, &folder, target, request, deadline).await
    }
}
