//! Machines for takes and restores that run at the same time for real: a disk of texts, and an agent that speaks packs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    AgentLink, AgentTarget, DiskPlan, DiskState, Epoch, Isolation, LayerRef, MachineKey, MachineOwner,
    MachineRuntime, MachineSpec, MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::record::Session;
use burstflare_ports::stream::Body;
use burstflare_ports::wire::snapshot::CAPABILITY;
use burstflare_ports::wire::{PROTOCOL, Ready};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};

use crate::packed::{self, Files, Scan};
use crate::reply::{answer, json, refused};
use crate::simulation::executor::step_aside;

#[derive(Default)]
struct Machine {
    epoch: Epoch,
    live: bool,
    on_fresh: bool,
    whole: Option<Files>,
    fresh: Option<Files>,
    scan: Option<Scan>,
    /// The agent's next stream breaks off behind so many pieces.
    breaks: Option<usize>,
}

impl Machine {
    fn files(&mut self) -> Option<&mut Files> {
        if self.on_fresh { self.fresh.as_mut() } else { self.whole.as_mut() }
    }
}

#[derive(Clone, Default)]
pub(super) struct Machines(Arc<Mutex<BTreeMap<MachineKey, Machine>>>);

fn problem(kind: ErrorKind, what: &str) -> PortError {
    PortError::new(kind, "machine", what)
}

impl Machines {
    fn on<T>(&self, key: MachineKey, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(self.0.lock().unwrap().entry(key).or_default())
    }

    fn of<T>(&self, session: &Session, act: impl FnOnce(&mut Machine) -> T) -> T {
        let owner = MachineOwner::Session(session.id);
        self.on(MachineKey { workspace: session.workspace, owner }, act)
    }

    /// What a session's disk holds.
    pub(super) fn files(&self, session: &Session) -> Files {
        self.of(session, |machine| machine.files().cloned()).unwrap_or_default()
    }

    /// Writes below a session's roots.
    pub(super) fn write(&self, session: &Session, act: impl FnOnce(&mut Files)) {
        self.of(session, |machine| machine.files().map(act));
    }

    /// The agent's next stream breaks off behind so many pieces.
    pub(super) fn break_off(&self, session: &Session, pieces: usize) {
        self.of(session, |machine| machine.breaks = Some(pieces));
    }

    fn stream(&self, key: MachineKey, pieces: Vec<Bytes>) -> Body {
        let breaks = self.on(key, |machine| machine.breaks.take());
        let whole = pieces.len();
        let mut pieces: Vec<PortResult<Bytes>> = pieces.into_iter().map(Ok).collect();
        if let Some(at) = breaks.filter(|at| *at < whole) {
            pieces.truncate(at);
            pieces.push(Err(problem(ErrorKind::Unavailable, "broke off")));
        }
        Body::Stream(Box::pin(stream::unfold(pieces.into_iter(), |mut pieces| async move {
            step_aside().await;
            Some((pieces.next()?, pieces))
        })))
    }

    fn replace(&self, key: MachineKey, files: Files) -> PortResult<()> {
        self.on(key, |machine| machine.files().map(|place| *place = files))
            .ok_or_else(|| problem(ErrorKind::Unavailable, "no disk"))
    }
}

#[async_trait]
impl MachineRuntime for Machines {
    fn profile(&self) -> RuntimeProfile {
        RuntimeProfile {
            name: "double".to_owned(),
            isolation: Isolation::Sandbox,
            network: "none".to_owned(),
            limits: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        Ok(self.on(spec.machine, |machine| {
            if !machine.live || machine.epoch != spec.epoch {
                let keeps = spec.disk == DiskPlan::Keep && machine.whole.is_some();
                machine.fresh = (!keeps).then(Files::new);
                (machine.epoch, machine.live, machine.on_fresh, machine.scan) =
                    (spec.epoch, true, !keeps, None);
            }
            Started { disk: if machine.on_fresh { DiskState::Fresh } else { DiskState::Kept } }
        }))
    }

    async fn inspect(&self, key: MachineKey) -> PortResult<Option<MachineStatus>> {
        Ok(self.list(None, 200).await?.into_iter().find(|status| status.machine == key))
    }

    async fn seal(&self, key: MachineKey, _epoch: Epoch) -> PortResult<()> {
        self.on(key, |machine| {
            if machine.on_fresh {
                (machine.whole, machine.on_fresh) = (machine.fresh.take(), false);
            }
        });
        Ok(())
    }

    async fn stop(&self, key: MachineKey, _epoch: Epoch, _grace: Duration) -> PortResult<Stopped> {
        self.on(key, |machine| machine.live = false);
        Ok(Stopped::Clean)
    }

    async fn destroy(&self, key: MachineKey, _epoch: Epoch) -> PortResult<()> {
        self.0.lock().unwrap().remove(&key);
        Ok(())
    }

    async fn list(&self, after: Option<MachineOwner>, limit: usize) -> PortResult<Vec<MachineStatus>> {
        let all = self.0.lock().unwrap();
        let mut found: Vec<MachineStatus> = all
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| key.owner > after))
            .map(|(key, machine)| MachineStatus {
                machine: *key,
                epoch: machine.epoch,
                alive: machine.live,
                disk_whole: machine.whole.is_some(),
            })
            .collect();
        found.sort_by_key(|status| status.machine.owner);
        found.truncate(limit);
        Ok(found)
    }

    async fn prepare(&self, _layer: &LayerRef) -> PortResult<()> {
        Ok(())
    }
}

#[async_trait]
impl AgentLink for Machines {
    async fn send(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        _deadline: Duration,
    ) -> PortResult<Response<Body>> {
        step_aside().await;
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        let key = target.machine;
        if !self.on(key, |machine| machine.live && machine.epoch == target.epoch) {
            return Err(problem(ErrorKind::Unavailable, "nothing listens"));
        }
        match path.as_str() {
            "/ready" => json(&Ready {
                protocol: PROTOCOL,
                oldest_protocol: 1,
                capabilities: vec![CAPABILITY.to_owned()],
                machine: key.owner.to_string(),
                epoch: target.epoch,
                ssh_host_key: String::new(),
                uptime_ms: 1,
            }),
            "/v1/snapshots/scan" => {
                let parent = body.collect(1 << 20, "scan").await?;
                let files = self.on(key, |machine| machine.files().cloned()).unwrap_or_default();
                let Some((scan, frames)) = packed::scan("scan", &query, &files, &parent) else {
                    return refused(StatusCode::UNPROCESSABLE_ENTITY, "corrupt");
                };
                self.on(key, |machine| machine.scan = Some(scan));
                answer(StatusCode::OK, self.stream(key, frames))
            }
            "/v1/snapshots/packs" => {
                let have = body.collect(1 << 20, "packs").await?;
                match self.on(key, |machine| machine.scan.clone()) {
                    Some(scan) => answer(StatusCode::OK, self.stream(key, packed::pack(&scan, &have))),
                    None => refused(StatusCode::NOT_FOUND, "not_found"),
                }
            }
            "/v1/snapshots" => match packed::restored(&body.collect(1 << 20, "restore").await?) {
                Some(files) => {
                    self.replace(key, files.clone())?;
                    json(&packed::summary(&files))
                }
                None => refused(StatusCode::UNPROCESSABLE_ENTITY, "corrupt"),
            },
            "/v1/quiesce" | "/v1/hooks/start" => answer(StatusCode::NO_CONTENT, Body::empty()),
            "/v1/shutdown" => {
                self.on(key, |machine| machine.live = false);
                answer(StatusCode::NO_CONTENT, Body::empty())
            }
            _ => refused(StatusCode::NOT_FOUND, "unknown_call"),
        }
    }
}
