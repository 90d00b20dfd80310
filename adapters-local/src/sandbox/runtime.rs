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
    AgentLink, AgentTarget, DiskState, Enforcement, Epoch, Isolation, LayerRef, MachineKey, MachineOwner,
    MachineRuntime, MachineSpec, MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::stream::Body;
use tokio::sync::{OwnedMutexGuard, broadcast};

use super::cgroup::Groups;
use super::config::{NetworkMode, SandboxConfig};
use super::egress::Egress;
use super::idmap::Maps;
use super::layer::Layers;
use super::live::{self, End, Slot};
use super::probe::{self, Check, CheckState};
use super::process::{self, Process};
use super::record::{self, Folder};
use super::remove::Trash;
use super::spawn::Ended;
use super::tools::{self, ToolFolder};
use super::users::UserPool;
use super::watch::Notice;
use super::{disk, failed, link};

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
    pub notices: broadcast::Sender<Notice>,
    pub checks: Vec<Check>,
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
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> PortResult<T> + Send + 'static,
) -> PortResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(defect)?
}

fn defect(error: tokio::task::JoinError) -> PortError {
    PortError::new(ErrorKind::Internal, "sandbox", "an operation did not end").with_source(error)
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
            notices: broadcast::channel(256).0,
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
        let proxy = match self.config.network {
            NetworkMode::Proxy => match self.listen_egress(&folder) {
                Ok(listener) => Some(listener),
                Err(error) => {
                    tracing::error!(machine = %owner, %error, "the machine has no way out");
                    None
                }
            },
            NetworkMode::Host | NetworkMode::Pasta => None,
        };
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

/// Refuses what speaks for a life that is over.
fn current(folder: Option<&Folder>, epoch: Epoch, operation: &'static str) -> PortResult<()> {
    let seen = folder.map_or(0, Folder::epoch);
    if epoch < seen {
        return Err(PortError::new(
            ErrorKind::Stale,
            operation,
            format!("epoch {epoch} is over, {seen} was seen"),
        ));
    }
    Ok(())
}

async fn start(inner: Arc<Inner>, slot: Arc<Slot>, spec: MachineSpec) -> PortResult<Started> {
    const START: &str = "machine.start";
    if spec.base != "default" {
        let context = format!("no base `{}`: the process sandbox has `default` only", spec.base);
        return Err(PortError::new(ErrorKind::Invalid, START, context));
    }
    // What the kernel takes as a node name, and what goes into /etc/hosts.
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if spec.hostname.is_empty() || spec.hostname.len() > 64 || !spec.hostname.bytes().all(letters) {
        return Err(PortError::new(ErrorKind::Invalid, START, "no host name: 1 to 64 of A-Z a-z 0-9 . -"));
    }
    current(inner.folder(spec.machine.owner).as_ref(), spec.epoch, START)?;
    if let Some(live) = slot.live() {
        if live.epoch() == spec.epoch && live.process.alive() {
            let disk = if live.life.kept { DiskState::Kept } else { DiskState::Fresh };
            return Ok(Started { disk });
        }
        live.process.kill().await.map_err(failed(START, "cannot end the life before"))?;
        live.ended().await;
    }
    let layer = match &spec.layer {
        Some(layer) => Some(inner.layers.ready(layer).await?),
        None => None,
    };
    let this = Arc::clone(&inner);
    let begun = blocking(move || this.begin(spec, layer.as_deref())).await?;
    let started = Started { disk: begun.disk };
    live::hold(&inner, &slot, begun.folder, begun.life, begun.process, begun.proxy);
    Ok(started)
}

async fn seal(inner: Arc<Inner>, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
    const SEAL: &str = "machine.seal";
    let folder = inner.folder(machine.owner);
    current(folder.as_ref(), epoch, SEAL)?;
    let of_life =
        |folder: Folder| folder.life().filter(|life| life.epoch == epoch).map(|life| (folder, life));
    let (folder, life) = folder
        .and_then(of_life)
        .ok_or_else(|| PortError::new(ErrorKind::NotFound, SEAL, format!("no machine of epoch {epoch}")))?;
    let this = Arc::clone(&inner);
    blocking(move || disk::seal(&folder, epoch, life.disk, &this.trash)).await?;
    inner.empty_trash();
    Ok(())
}

async fn stop(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    machine: MachineKey,
    epoch: Epoch,
    grace: Duration,
) -> PortResult<Stopped> {
    current(inner.folder(machine.owner).as_ref(), epoch, "machine.stop")?;
    let outcome = |end: End| match end {
        End(None | Some(Ended::Exit(0))) => Stopped::Clean,
        End(Some(_)) => Stopped::Killed,
    };
    let Some(live) = slot.live() else {
        // Asked to end by its caller, it may have been quicker than this call.
        return Ok(slot.take_end(epoch).map_or(Stopped::Absent, outcome));
    };
    if let Some(end) = live.ended_within(grace).await {
        slot.take_end(epoch);
        return Ok(outcome(end));
    }
    live.process.kill().await.map_err(failed("machine.stop", "cannot kill the machine"))?;
    live.ended().await;
    slot.take_end(epoch);
    Ok(Stopped::Killed)
}

async fn destroy(inner: Arc<Inner>, slot: Arc<Slot>, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
    const DESTROY: &str = "machine.destroy";
    let folder = inner.folder(machine.owner);
    current(folder.as_ref(), epoch, DESTROY)?;
    if let Some(live) = slot.live() {
        live.process.kill().await.map_err(failed(DESTROY, "cannot kill the machine"))?;
        live.ended().await;
    }
    let path = inner.machines.join(machine.owner.to_string());
    let user = folder.filter(|_| inner.root).and_then(|folder| folder.host_user());
    let this = Arc::clone(&inner);
    blocking(move || {
        this.trash.take(&path).map_err(failed(DESTROY, "cannot remove the machine's folder"))?;
        // The user is free again once nothing belongs to it.
        this.trash.empty().map_err(failed(DESTROY, "cannot remove the machine's disk"))?;
        if let Some(user) = user {
            this.maps.forget(user);
            this.users.give_back(user);
        }
        Ok(())
    })
    .await
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
        self.in_turn(owner, move |inner, slot| start(inner, slot, spec)).await
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
        self.in_turn(machine.owner, move |inner, _| seal(inner, machine, epoch)).await
    }

    async fn stop(&self, machine: MachineKey, epoch: Epoch, grace: Duration) -> PortResult<Stopped> {
        self.in_turn(machine.owner, move |inner, slot| stop(inner, slot, machine, epoch, grace)).await
    }

    async fn destroy(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.in_turn(machine.owner, move |inner, slot| destroy(inner, slot, machine, epoch)).await?;
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
        link::send(&slot, &folder, target, request, deadline).await
    }
}
