//! Test double of a machine runtime. Machines and their disks survive crashes of the control plane; a file system is a
//! map from path to text. What happens inside is [`super::agent`]'s.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::blob::Blobs;
use burstflare_ports::clock::Clock as _;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    DiskPlan, DiskState, Epoch, Isolation, LayerRef, MachineKey, MachineOwner, MachineRuntime, MachineSpec,
    MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;

use super::agent::{summary, unpack};
use super::executor::{Side, Spawner};
use super::fault::Faults;
use super::store::Sabotage;
pub(super) use crate::packed::Files;

#[derive(Default)]
pub(super) struct Machine {
    /// The last life that was seen.
    pub(super) epoch: Epoch,
    pub(super) live: Option<Live>,
    /// The disk that was called whole.
    whole: Option<Files>,
    /// The disk of a life that has not called it whole yet.
    fresh: Option<Files>,
    /// Operations that were answered.
    operations: u64,
}

pub(super) struct Live {
    pub(super) key: String,
    pub(super) ready_at: Timestamp,
    on_fresh: bool,
    /// Its user's processes have been ended, and no new ones begin.
    pub(super) quiet: bool,
    /// When somebody did something in it.
    pub(super) active_at: Timestamp,
    /// Commands that run.
    pub(super) commands: u32,
    /// The last scan of its files.
    pub(super) scan: Option<crate::packed::Scan>,
}

impl Machine {
    pub(super) fn files(&mut self) -> Option<&mut Files> {
        if self.live.as_ref()?.on_fresh { self.fresh.as_mut() } else { self.whole.as_mut() }
    }
}

/// What a start needs.
#[derive(Clone)]
struct Birth {
    machine: MachineKey,
    epoch: Epoch,
    keep: bool,
    layer: Files,
    agent_key: String,
}

#[derive(Clone)]
pub(super) struct Machines {
    spawner: Spawner,
    pub(super) all: Arc<Mutex<BTreeMap<MachineKey, Machine>>>,
    blobs: Arc<dyn Blobs>,
    pub(super) faults: Faults,
    pub(super) sabotage: Sabotage,
    /// Agents of idle machines take a while to say that they have let go of everything.
    pub(super) reluctant: Arc<AtomicBool>,
}

pub(super) fn problem(kind: ErrorKind, what: &str) -> PortError {
    PortError::new(kind, "sim", what)
}

impl Machines {
    pub(super) fn new(spawner: Spawner, blobs: Arc<dyn Blobs>, faults: Faults, sabotage: Sabotage) -> Self {
        let reluctant = Arc::default();
        Self { spawner, all: Arc::default(), blobs, faults, sabotage, reluctant }
    }

    /// A live machine of a session dies: its processes are killed, what was synced stays.
    pub(super) fn kill_one(&self) {
        let mut all = self.all.lock().unwrap();
        let live: Vec<MachineKey> =
            all.iter().filter(|(_, machine)| machine.live.is_some()).map(|(key, _)| *key).collect();
        if let Some(key) = self.faults.rng.pick(&live) {
            self.faults.note(|| format!("machine of {} dies", key.owner));
            self.faults.count("machine dies");
            all.get_mut(key).unwrap().live = None;
        }
    }

    /// The disk of a machine that does not run is lost.
    pub(super) fn lose_disk(&self, key: MachineKey) {
        let mut all = self.all.lock().unwrap();
        if let Some(machine) = all.get_mut(&key).filter(|machine| machine.live.is_none()) {
            self.faults.note(|| format!("disk of {} is lost", key.owner));
            machine.whole = None;
            machine.fresh = None;
        }
    }

    /// Machine, life, whether it lives, and the files of its disk.
    pub(super) fn census(&self) -> Vec<(MachineKey, Epoch, bool, Option<Files>)> {
        let all = self.all.lock().unwrap();
        all.iter()
            .map(|(key, machine)| (*key, machine.epoch, machine.live.is_some(), machine.whole.clone()))
            .collect()
    }

    fn with<T>(
        &self,
        key: MachineKey,
        epoch: Epoch,
        act: impl FnOnce(&mut Machine) -> PortResult<T>,
    ) -> PortResult<T> {
        let mut all = self.all.lock().unwrap();
        let machine = all.entry(key).or_default();
        if epoch < machine.epoch {
            return Err(problem(ErrorKind::Stale, "an earlier life"));
        }
        machine.epoch = epoch;
        machine.operations += 1;
        act(machine)
    }

    /// Sometimes a call is answered with a timeout and has its effect later, when nobody reckons with it; but not behind a
    /// later one: operations on one machine are carried out in turn.
    fn late<T: Clone + Send + Sync + 'static>(
        &self,
        key: MachineKey,
        what: &T,
        effect: fn(&Self, &T),
    ) -> PortResult<()> {
        if !self.faults.comes_late() {
            return Ok(());
        }
        let (machines, what) = (self.clone(), what.clone());
        let operations = move |machines: &Self| {
            machines.all.lock().unwrap().get(&key).map_or(0, |machine| machine.operations)
        };
        let before = operations(self);
        self.spawner.spawn(Side::World, async move {
            let wait = machines.faults.rng.below(20_000);
            machines.faults.clock.sleep(Duration::from_millis(wait as u64)).await;
            if operations(&machines) != before {
                return;
            }
            machines.faults.note(|| "a late effect on a machine".to_owned());
            machines.faults.count("late effect on a machine");
            effect(&machines, &what);
        });
        Err(problem(ErrorKind::Timeout, "took too long"))
    }

    fn begin(&self, birth: &Birth) -> PortResult<Started> {
        self.with(birth.machine, birth.epoch, |machine| {
            // Each life has a key of its own: the same key is the same life.
            if machine.live.as_ref().is_none_or(|live| live.key != birth.agent_key) {
                machine.fresh = None;
                let keeps = birth.keep && machine.whole.is_some();
                if !keeps {
                    machine.fresh = Some(birth.layer.clone());
                }
                let slow = if self.faults.rng.hits(2_000) { 4_000 } else { 300 };
                let wait = Duration::from_millis(self.faults.rng.below(slow) as u64);
                machine.live = Some(Live {
                    key: birth.agent_key.clone(),
                    ready_at: self.faults.clock.now().after(wait),
                    on_fresh: !keeps,
                    quiet: false,
                    active_at: self.faults.clock.now(),
                    commands: 0,
                    scan: None,
                });
            }
            let on_fresh = machine.live.as_ref().is_some_and(|live| live.on_fresh);
            Ok(Started { disk: if on_fresh { DiskState::Fresh } else { DiskState::Kept } })
        })
    }

    fn end(&self, key: MachineKey, epoch: Epoch) -> PortResult<Stopped> {
        self.with(key, epoch, |machine| {
            if self.sabotage == Sabotage::ForgetfulDisks {
                machine.whole = None;
            }
            if self.sabotage == Sabotage::ImmortalMachines {
                return Ok(Stopped::Absent);
            }
            Ok(machine.live.take().map_or(Stopped::Absent, |_| Stopped::Killed))
        })
    }

    fn raze(&self, key: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.with(key, epoch, |_| Ok(()))?;
        if self.sabotage != Sabotage::ImmortalMachines {
            self.all.lock().unwrap().remove(&key);
        }
        Ok(())
    }

    async fn layer(&self, layer: Option<&LayerRef>) -> PortResult<Files> {
        let Some(layer) = layer else { return Ok(Files::new()) };
        let (_, stream) = self.blobs.get(&layer.blob, None).await?;
        let files = unpack(&Body::Stream(stream).collect(1 << 20, "layer").await?)?;
        if summary(&files).digest != layer.digest {
            return Err(problem(ErrorKind::Corrupt, "the layer is not what was captured"));
        }
        Ok(files)
    }
}

#[async_trait]
impl MachineRuntime for Machines {
    fn profile(&self) -> RuntimeProfile {
        RuntimeProfile {
            name: "simulated".to_owned(),
            isolation: Isolation::Sandbox,
            network: "none".to_owned(),
            limits: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        self.faults
            .around("runtime.start", async {
                let birth = Birth {
                    machine: spec.machine,
                    epoch: spec.epoch,
                    keep: spec.disk == DiskPlan::Keep,
                    layer: self.layer(spec.layer.as_ref()).await?,
                    agent_key: spec.boot.key.expose().clone(),
                };
                self.late(birth.machine, &birth, |machines, birth| drop(machines.begin(birth)))?;
                self.begin(&birth)
            })
            .await
    }

    async fn inspect(&self, key: MachineKey) -> PortResult<Option<MachineStatus>> {
        self.faults
            .around("runtime.inspect", async {
                let all = self.all.lock().unwrap();
                Ok(all.get(&key).map(|machine| MachineStatus {
                    machine: key,
                    epoch: machine.epoch,
                    alive: machine.live.is_some(),
                    disk_whole: machine.whole.is_some(),
                }))
            })
            .await
    }

    async fn seal(&self, key: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.faults
            .around("runtime.seal", async {
                self.with(key, epoch, |machine| {
                    if let Some(live) = machine.live.as_mut()
                        && live.on_fresh
                    {
                        live.on_fresh = false;
                        machine.whole = machine.fresh.take();
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn stop(&self, key: MachineKey, epoch: Epoch, _grace: Duration) -> PortResult<Stopped> {
        self.faults
            .around("runtime.stop", async {
                self.late(key, &(key, epoch), |machines, (key, epoch)| drop(machines.end(*key, *epoch)))?;
                self.end(key, epoch)
            })
            .await
    }

    async fn destroy(&self, key: MachineKey, epoch: Epoch) -> PortResult<()> {
        self.faults
            .around("runtime.destroy", async {
                self.late(key, &(key, epoch), |machines, (key, epoch)| drop(machines.raze(*key, *epoch)))?;
                self.raze(key, epoch)
            })
            .await
    }

    async fn list(&self, after: Option<MachineOwner>, limit: usize) -> PortResult<Vec<MachineStatus>> {
        self.faults
            .around("runtime.list", async {
                let all = self.all.lock().unwrap();
                let mut found: Vec<MachineStatus> = all
                    .iter()
                    .filter(|(key, _)| after.is_none_or(|after| key.owner > after))
                    .map(|(key, machine)| MachineStatus {
                        machine: *key,
                        epoch: machine.epoch,
                        alive: machine.live.is_some(),
                        disk_whole: machine.whole.is_some(),
                    })
                    .collect();
                found.sort_by_key(|status| status.machine.owner);
                found.truncate(limit);
                Ok(found)
            })
            .await
    }

    async fn prepare(&self, layer: &LayerRef) -> PortResult<()> {
        self.faults.around("runtime.prepare", async { self.layer(Some(layer)).await.map(drop) }).await
    }
}
