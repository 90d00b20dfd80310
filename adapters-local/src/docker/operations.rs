//! Operations on one machine. Each runs in the machine's turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    AgentTarget, DiskPlan, DiskState, Epoch, MachineKey, MachineSpec, Started, Stopped,
};
use burstflare_ports::wire::{self, Boot};

use super::container::{self, Parts};
use super::engine::{Phase, Seen, Volume};
use super::layer::{self, Place};
use super::record::{self, Folder, Life, Whole};
use super::runtime::{Inner, Slot};
use crate::machine::tools::ToolFolder;
use crate::machine::turns::Turn;
use crate::machine::{EGRESS_SOCKET, egress};
use crate::sandbox::failed;
use crate::sandbox::runtime::blocking;

const START: &str = "machine.start";

/// Refuses what speaks for a life that is over.
fn current(folder: Option<&Folder>, seen: &[Seen], epoch: Epoch, operation: &'static str) -> PortResult<()> {
    let last = seen.iter().map(|seen| seen.epoch).chain(folder.map(record::epoch)).max().unwrap_or(0);
    if epoch < last {
        return Err(PortError::new(
            ErrorKind::Stale,
            operation,
            format!("epoch {epoch} is over, {last} was seen"),
        ));
    }
    Ok(())
}

pub(super) async fn start(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    spec: MachineSpec,
    turn: Turn,
) -> PortResult<Started> {
    let image = inner.config.images.get(&spec.base).ok_or_else(|| {
        let known: Vec<&str> = inner.config.images.keys().map(String::as_str).collect();
        let context = format!("no base `{}`: this server has {}", spec.base, known.join(", "));
        PortError::new(ErrorKind::Invalid, START, context)
    })?;
    // What the kernel takes as a node name, and the engine as a host's.
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if spec.hostname.is_empty() || spec.hostname.len() > 63 || !spec.hostname.bytes().all(letters) {
        return Err(PortError::new(ErrorKind::Invalid, START, "no host name: 1 to 63 of A-Z a-z 0-9 . -"));
    }
    let (machine, epoch) = (spec.machine, spec.epoch);
    let engine = &inner.engine;
    let (seen, volumes) =
        tokio::try_join!(engine.containers(Some(machine.owner)), engine.volumes(Some(machine.owner)))?;
    let this = Arc::clone(&inner);
    let folder = blocking(move || Folder::make(&this.machines, machine)).await?;
    current(Some(&folder), &seen, epoch, START)?;
    let lived = record::life(&folder).filter(|life| life.epoch == epoch && life.begun);
    if let Some(life) = lived
        && seen.iter().any(|seen| seen.running && seen.epoch == epoch)
    {
        return Ok(Started { disk: if life.kept { DiskState::Kept } else { DiskState::Fresh } });
    }
    for old in &seen {
        engine.remove(&old.id).await?;
    }
    slot.line.connections.clear();
    let life = choose(&inner, &folder, &volumes, &spec).await?;
    let boot = boot(spec.boot.clone(), &inner.tools)?;
    let this = folder.clone();
    let (run, listener) = blocking(move || {
        record::set_life(&this, life)?;
        let run = record::make_run_folder(&this)?;
        let listener =
            egress::listen(&this.path).map_err(failed(START, "cannot listen for the machine's way out"))?;
        Ok((run, listener))
    })
    .await?;
    slot.serve_way_out(&inner, listener)?;
    slot.untouched.store(!life.kept && spec.layer.is_none(), Ordering::Release);
    let way_out = folder.path.join("egress");
    let parts = Parts { agent: &inner.agent, run: &run, egress: &way_out, tools: &inner.tools };
    let body = container::body(&inner.deployment, &engine.facts, image, &spec, life.disk, parts);
    let id = engine.create(inner.deployment.container_name(machine, epoch), body).await?;
    let brought_up = async {
        engine.start(&id, &boot).await?;
        if let (Some(layer), false) = (&spec.layer, life.kept) {
            let target = AgentTarget { machine, epoch, key: spec.boot.key.clone() };
            let place = Place { container: &id, folder: &folder.path, line: &slot.line, target };
            layer::put(engine, place, inner.blobs.as_ref(), layer).await?;
        }
        let this = folder.clone();
        blocking(move || record::set_life(&this, Life { begun: true, ..life })).await
    };
    if let Err(error) = brought_up.await {
        slot.ended();
        if let Err(left) = engine.remove(&id).await {
            tracing::warn!(machine = %machine.owner, error = %left, "a container that did not start is left; the next start removes it");
        }
        return Err(error);
    }
    drop(turn);
    Ok(Started { disk: if life.kept { DiskState::Kept } else { DiskState::Fresh } })
}

/// Chooses the disk of the next life, and removes those that were begun and never declared whole.
async fn choose(inner: &Inner, folder: &Folder, volumes: &[Volume], spec: &MachineSpec) -> PortResult<Life> {
    let has = |disk: u64| volumes.iter().any(|volume| volume.disk == disk);
    let whole = record::whole(folder).filter(|whole| has(whole.disk));
    for volume in volumes.iter().filter(|volume| whole.is_none_or(|whole| whole.disk != volume.disk)) {
        inner.engine.remove_volume(&volume.name).await?;
    }
    let last = record::life(folder).map_or(0, |life| life.disk);
    let last = volumes.iter().map(|volume| volume.disk).fold(last, u64::max);
    let (disk, kept) = match (spec.disk, whole) {
        (DiskPlan::Keep, Some(whole)) => (whole.disk, true),
        _ => (last + 1, false),
    };
    Ok(Life { epoch: spec.epoch, disk, kept, begun: false })
}

fn boot(mut boot: Boot, tools: &[ToolFolder]) -> PortResult<Vec<u8>> {
    boot.egress =
        Some(wire::Egress { listen: "127.0.0.1:3128".to_owned(), socket: EGRESS_SOCKET.to_owned() });
    let mut path: Vec<String> = tools.iter().map(ToolFolder::path_inside).collect();
    path.append(&mut boot.path);
    boot.path = path;
    let message = serde_json::to_vec(&boot).map_err(|error| {
        PortError::new(ErrorKind::Internal, START, "cannot write the boot message").with_source(error)
    })?;
    if message.len() > wire::BOOT_LIMIT {
        return Err(PortError::new(ErrorKind::TooLarge, START, "the boot message is over its limit"));
    }
    Ok(message)
}

pub(super) async fn seal(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    machine: MachineKey,
    epoch: Epoch,
) -> PortResult<()> {
    const SEAL: &str = "machine.seal";
    let folder = inner.folder(machine.owner);
    current(folder.as_ref(), &[], epoch, SEAL)?;
    let of_life =
        |folder: Folder| record::life(&folder).filter(|life| life.epoch == epoch).map(|life| (folder, life));
    let (folder, life) = folder
        .and_then(of_life)
        .ok_or_else(|| PortError::new(ErrorKind::NotFound, SEAL, format!("no machine of epoch {epoch}")))?;
    let before = record::whole(&folder);
    if before.is_some_and(|whole| whole.epoch == epoch && whole.disk == life.disk) {
        return Ok(());
    }
    // Where nothing was put on it there is nothing to lose; an empty volume is made anew with its container.
    let flush = before.is_none_or(|whole| whole.disk != life.disk) && !slot.untouched.load(Ordering::Acquire);
    blocking(move || {
        if flush {
            // The engine's folder may be closed to us, so everything goes.
            rustix::fs::sync();
        }
        record::set_whole(&folder, Whole { epoch, disk: life.disk })
    })
    .await?;
    if before.is_some_and(|whole| whole.disk != life.disk) {
        let volumes = inner.engine.volumes(Some(machine.owner)).await?;
        for volume in volumes.iter().filter(|volume| volume.disk != life.disk) {
            inner.engine.remove_volume(&volume.name).await?;
        }
    }
    Ok(())
}

pub(super) async fn stop(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    machine: MachineKey,
    epoch: Epoch,
    grace: Duration,
) -> PortResult<Stopped> {
    let engine = &inner.engine;
    let seen = engine.containers(Some(machine.owner)).await?;
    current(inner.folder(machine.owner).as_ref(), &seen, epoch, "machine.stop")?;
    let mut how = Stopped::Absent;
    for container in seen {
        if container.epoch == epoch {
            let mut killed = false;
            if container.running && !engine.ended_within(&container.id, grace).await? {
                engine.kill(&container.id).await?;
                killed = true;
            }
            how = match engine.phase(&container.id).await? {
                Some(Phase::Ended(0)) if !killed => Stopped::Clean,
                Some(Phase::Ended(_) | Phase::Running) => Stopped::Killed,
                Some(Phase::Never) | None => Stopped::Absent,
            };
        }
        engine.remove(&container.id).await?;
    }
    slot.ended();
    Ok(how)
}

pub(super) async fn destroy(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    machine: MachineKey,
    epoch: Epoch,
) -> PortResult<()> {
    const DESTROY: &str = "machine.destroy";
    let engine = &inner.engine;
    let seen = engine.containers(Some(machine.owner)).await?;
    current(inner.folder(machine.owner).as_ref(), &seen, epoch, DESTROY)?;
    for container in seen {
        engine.remove(&container.id).await?;
    }
    slot.ended();
    for volume in engine.volumes(Some(machine.owner)).await? {
        engine.remove_volume(&volume.name).await?;
    }
    let path = inner.machines.join(machine.owner.to_string());
    blocking(move || match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed(DESTROY, "cannot remove the machine's folder")(error))
        }
        _ => Ok(()),
    })
    .await
}
