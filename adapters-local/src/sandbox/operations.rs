//! Operations on one machine. Each runs in the machine's turn.

use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{DiskState, Epoch, MachineKey, MachineSpec, Started, Stopped};

use super::live::{self, End, Slot};
use super::record::Folder;
use super::runtime::{Inner, blocking};
use super::spawn::Ended;
use super::{disk, failed};
use crate::machine::turns::Turn;

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

pub(super) async fn start(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    spec: MachineSpec,
    turn: Turn,
) -> PortResult<Started> {
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
    slot.line.turn_of_start.keep(turn);
    live::hold(&inner, &slot, begun.folder, begun.life, begun.process, begun.proxy);
    Ok(started)
}

pub(super) async fn seal(inner: Arc<Inner>, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
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

pub(super) async fn stop(
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

pub(super) async fn destroy(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    machine: MachineKey,
    epoch: Epoch,
) -> PortResult<()> {
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
