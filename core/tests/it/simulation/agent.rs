//! Test double of the agent: it speaks the wire protocol as far as core uses it. Commands are `write PATH TEXT` (written
//! and synced), `read PATH`, and for `sh -c` the words `echo TEXT > PATH` and `false`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::clock::Clock as _;
use burstflare_ports::error::{ErrorKind, PortResult};
use burstflare_ports::machine::{AgentLink, AgentTarget};
use burstflare_ports::stream::{Body, ByteStream};
use burstflare_ports::wire::snapshot::CAPABILITY;
use burstflare_ports::wire::tree::{Digest, Entry, Kind, Summary};
use burstflare_ports::wire::{
    ACTIVITY, Activity, Busy, ExecOutput, ExecRequest, PROTOCOL, Quiesce, Ready, Reason, frame,
};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};

use super::bundle;
use super::executor::step_aside;
use super::fault::DEFECT;
use super::machines::{Files, Live, Machine, Machines, problem};
use super::store::Sabotage;
use crate::packed;
use crate::reply::{answer, json, refused};

/// So long an agent that does not like to let go takes for it.
const RELUCTANT: Duration = Duration::from_secs(2);
/// The shortest idle time that a template of these worlds asks for.
const SHORTEST_IDLE: Duration = Duration::from_secs(60);

#[async_trait]
impl AgentLink for Machines {
    async fn send(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        _deadline: Duration,
    ) -> PortResult<Response<Body>> {
        self.faults
            .around("agent", async {
                let (head, body) = request.into_parts();
                let path = head.uri.path().to_owned();
                let query = head.uri.query().unwrap_or_default().to_owned();
                if let Some(refusal) = self.admit(target)? {
                    self.faults.note(|| format!("agent refuses {path}: {refusal}"));
                    return answer(refusal, Body::empty());
                }
                let body = if path == "/v1/exec" || head.method == http::Method::GET {
                    body
                } else {
                    Body::Full(body.collect(1 << 20, "agent").await?)
                };
                // The machine may be another one by the time the body is there.
                if self.admit(target)?.is_some() {
                    return Err(problem(ErrorKind::Unavailable, "the machine is gone"));
                }
                self.faults.note(|| format!("agent of {} {} {path}", target.machine.owner, head.method));
                self.serve(target, (&path, &query), &head.method, body).await
            })
            .await
    }
}

impl Machines {
    /// Whether the agent is there; `Some` where it refuses the caller.
    fn admit(&self, target: &AgentTarget) -> PortResult<Option<StatusCode>> {
        let now = self.faults.clock.now();
        let all = self.all.lock().unwrap();
        let gone = || problem(ErrorKind::Unavailable, "nothing listens");
        let machine = all.get(&target.machine).ok_or_else(gone)?;
        let live = machine.live.as_ref().filter(|live| live.ready_at <= now).ok_or_else(gone)?;
        Ok(if live.key != *target.key.expose() {
            Some(StatusCode::UNAUTHORIZED)
        } else if machine.epoch != target.epoch {
            Some(StatusCode::CONFLICT)
        } else {
            None
        })
    }

    fn on_files<T>(&self, target: &AgentTarget, act: impl FnOnce(&mut Files) -> T) -> PortResult<T> {
        if self.admit(target)?.is_some() {
            return Err(problem(ErrorKind::Unavailable, "the machine is gone"));
        }
        let mut all = self.all.lock().unwrap();
        let files = all.get_mut(&target.machine).and_then(Machine::files);
        files.map(act).ok_or_else(|| problem(ErrorKind::Internal, "a machine without a disk"))
    }

    fn on_live(&self, target: &AgentTarget, act: impl FnOnce(&mut Option<Live>)) {
        act(&mut self.all.lock().unwrap().get_mut(&target.machine).unwrap().live);
    }

    async fn serve(
        &self,
        target: &AgentTarget,
        (path, query): (&str, &str),
        method: &http::Method,
        body: Body,
    ) -> PortResult<Response<Body>> {
        match (method.as_str(), path) {
            ("GET", "/ready") => json(&Ready {
                protocol: PROTOCOL,
                oldest_protocol: 1,
                capabilities: vec![ACTIVITY.to_owned(), CAPABILITY.to_owned()],
                machine: target.machine.owner.to_string(),
                epoch: target.epoch,
                ssh_host_key: String::new(),
                uptime_ms: 1,
            }),
            ("POST", "/v1/exec") => {
                let bytes = body.collect(1 << 20, "exec").await?;
                let request: ExecRequest = serde_json::from_slice(&bytes).unwrap();
                answer(StatusCode::OK, Body::Stream(self.exec(target.clone(), request)))
            }
            ("PUT", "/v1/bundle") => {
                let bytes = body.collect(1 << 20, "bundle").await?;
                let Some(unpacked) = bundle::unpack(&bytes) else {
                    return answer(StatusCode::BAD_REQUEST, Body::empty());
                };
                let found = self.on_files(target, |files| {
                    files.extend(unpacked);
                    summary(files)
                })?;
                json(&found)
            }
            ("GET", "/v1/tree") => {
                let files = self.on_files(target, |files| files.clone())?;
                answer(StatusCode::OK, Body::Stream(self.capture(target.clone(), &files)))
            }
            ("PUT", "/v1/tree") => {
                let archive = unpack(&body.collect(1 << 20, "tree").await?)?;
                json(&summary(&self.replace(target, archive).await?))
            }
            ("GET", "/v1/activity") => json(&self.activity(target)?),
            ("POST", "/v1/snapshots/scan") => {
                let parent = body.collect(1 << 20, "scan").await?;
                let files = self.on_files(target, |files| files.clone())?;
                let name = format!("scan-{}", self.faults.rng.below(1 << 30));
                let Some((scan, frames)) = packed::scan(&name, query, &files, &parent) else {
                    return refused(StatusCode::UNPROCESSABLE_ENTITY, "corrupt");
                };
                self.on_live(target, |live| live.iter_mut().for_each(|live| live.scan = Some(scan.clone())));
                answer(StatusCode::OK, Body::Stream(self.pieces(target.clone(), frames)))
            }
            ("POST", "/v1/snapshots/packs") => {
                let have = body.collect(1 << 20, "packs").await?;
                let mut kept = None;
                self.on_live(target, |live| kept = live.as_ref().and_then(|live| live.scan.clone()));
                match kept.filter(|scan| query == format!("scan={}", scan.name)) {
                    Some(scan) => {
                        let pieces = packed::pack(&scan, &have);
                        answer(StatusCode::OK, Body::Stream(self.pieces(target.clone(), pieces)))
                    }
                    None => refused(StatusCode::NOT_FOUND, "not_found"),
                }
            }
            ("PUT", "/v1/snapshots") => match packed::restored(&body.collect(1 << 20, "restore").await?) {
                Some(files) => json(&packed::summary(&self.replace(target, files).await?)),
                None => refused(StatusCode::UNPROCESSABLE_ENTITY, "corrupt"),
            },
            ("POST", "/v1/quiesce") => {
                let bytes = body.collect(1 << 20, "quiesce").await?;
                let wish: Quiesce = serde_json::from_slice(&bytes).unwrap();
                let now = self.activity(target)?;
                if wish.if_idle_since.is_some_and(|mark| !now.ending && now.mark > mark) {
                    self.faults.count("activity before the sleep");
                    return refused(StatusCode::CONFLICT, "busy");
                }
                if wish.if_idle_since.is_some() {
                    self.faults.count("idle");
                    self.judge_idleness(target);
                }
                self.on_live(target, |live| live.iter_mut().for_each(|live| live.quiet = true));
                if self.reluctant.load(Ordering::Relaxed) {
                    self.faults.clock.sleep(RELUCTANT).await;
                }
                answer(StatusCode::NO_CONTENT, Body::empty())
            }
            ("POST", "/v1/shutdown") => {
                self.on_live(target, |live| *live = None);
                answer(StatusCode::NO_CONTENT, Body::empty())
            }
            ("POST", "/v1/hooks/start") => answer(StatusCode::NO_CONTENT, Body::empty()),
            // An agent of an older version: nobody listens to ports here.
            ("GET", "/v1/ports/watch") => answer(
                StatusCode::NOT_FOUND,
                Body::Full(Bytes::from_static(br#"{"code":"unknown_call","message":"no ports"}"#)),
            ),
            other => panic!("the simulated agent knows no {other:?}"),
        }
    }

    /// Whoever puts a machine to sleep for idleness has to be right.
    fn judge_idleness(&self, target: &AgentTarget) {
        let now = self.faults.clock.now();
        let all = self.all.lock().unwrap();
        let Some(live) = all.get(&target.machine).and_then(|machine| machine.live.as_ref()) else { return };
        let idle = now.since(live.active_at) >= SHORTEST_IDLE && live.commands == 0;
        if !idle && !live.quiet {
            self.faults.count(&format!("{DEFECT}a machine in use is put to sleep"));
        }
    }

    fn activity(&self, target: &AgentTarget) -> PortResult<Activity> {
        let now = self.faults.clock.now();
        let mut all = self.all.lock().unwrap();
        let live = all.get_mut(&target.machine).and_then(|machine| machine.live.as_mut());
        let live = live.ok_or_else(|| problem(ErrorKind::Unavailable, "the machine is gone"))?;
        if live.commands > 0 {
            live.active_at = now;
        }
        if self.sabotage == Sabotage::DeafAgents {
            return Ok(Activity {
                last_active_ms_ago: 86_400_000,
                reason: Reason::Exec,
                busy: Vec::new(),
                cpu_ms: 0,
                mark: u64::MAX,
                ending: live.quiet,
            });
        }
        let busy = Busy { reason: Reason::Exec, count: live.commands };
        Ok(Activity {
            last_active_ms_ago: u64::try_from(now.since(live.active_at).as_millis()).unwrap(),
            reason: Reason::Exec,
            busy: Some(busy).filter(|busy| busy.count > 0).into_iter().collect(),
            cpu_ms: 0,
            mark: u64::try_from(live.active_at.millis()).unwrap(),
            ending: live.quiet,
        })
    }

    /// Somebody does something: a command begins (1) or ends (-1).
    fn on_command(&self, target: &AgentTarget, change: i32) {
        let now = self.faults.clock.now();
        let mut all = self.all.lock().unwrap();
        let live = all.get_mut(&target.machine).and_then(|machine| machine.live.as_mut());
        if let Some(live) = live.filter(|live| live.key == *target.key.expose()) {
            live.commands = live.commands.saturating_add_signed(change);
            live.active_at = now;
        }
    }

    /// A command: it takes a while, has its effect, and says how it ended, unless the connection breaks first.
    fn exec(&self, target: AgentTarget, request: ExecRequest) -> ByteStream {
        let machines = self.clone();
        machines.on_command(&target, 1);
        let ends = Ends(machines.clone(), target.clone());
        Box::pin(stream::once(async move {
            let _ends = ends;
            step_aside().await;
            let wait = machines.faults.rng.below(50);
            machines.faults.clock.sleep(Duration::from_millis(wait as u64)).await;
            if machines.faults.breaks() {
                return Err(problem(ErrorKind::Unavailable, "broke off before"));
            }
            let quiet = machines
                .all
                .lock()
                .unwrap()
                .get(&target.machine)
                .is_some_and(|machine| machine.live.as_ref().is_none_or(|live| live.quiet));
            let lines = if quiet {
                vec![ExecOutput::Error("the machine is about to end".to_owned())]
            } else {
                machines.on_files(&target, |files| run(files, &request))?
            };
            machines.faults.note(|| format!("exec {:?} → {lines:?}", request.argv));
            if machines.faults.breaks() {
                return Err(problem(ErrorKind::Unavailable, "broke off after"));
            }
            let mut text = String::new();
            for line in lines {
                text += &serde_json::to_string(&line).unwrap();
                text.push('\n');
            }
            Ok(Bytes::from(text))
        }))
    }

    /// Unpacking takes a while, in which the roots are neither the old tree nor the new one.
    async fn replace(&self, target: &AgentTarget, new: Files) -> PortResult<Files> {
        self.on_files(target, Files::clear)?;
        let wait = self.faults.rng.below(6_000);
        self.faults.clock.sleep(Duration::from_millis(wait as u64)).await;
        if self.faults.breaks() {
            // Half of it is there when the connection breaks.
            let half = new.into_iter().step_by(2).collect();
            self.on_files(target, |files| *files = half)?;
            return Err(problem(ErrorKind::Unavailable, "broke off"));
        }
        self.on_files(target, |files| {
            *files = new;
            files.clone()
        })
    }

    fn capture(&self, target: AgentTarget, files: &Files) -> ByteStream {
        let archive = Bytes::from(serde_json::to_vec(files).unwrap());
        let mut end = summary(files);
        end.archive_blake3 = Some(blake3::hash(&archive).to_hex().to_string());
        let cut = archive.len() / 2;
        let pieces = vec![
            frame::encode(&archive.slice(..cut)),
            frame::encode(&archive.slice(cut..)),
            frame::encode_trailer(&serde_json::to_vec(&end).unwrap()),
        ];
        self.pieces(target, pieces)
    }

    /// A stream that may break off between its pieces.
    fn pieces(&self, target: AgentTarget, pieces: Vec<Bytes>) -> ByteStream {
        let machines = self.clone();
        let state = (pieces.into_iter(), machines, target);
        Box::pin(stream::unfold(state, |(mut pieces, machines, target)| async move {
            step_aside().await;
            let piece = pieces.next()?;
            if machines.faults.breaks() || !matches!(machines.admit(&target), Ok(None)) {
                // Half of the streams that break do so without a word.
                if machines.faults.rng.hits(5_000) {
                    return None;
                }
                let broken = problem(ErrorKind::Unavailable, "broke off");
                return Some((Err(broken), (Vec::new().into_iter(), machines, target)));
            }
            Some((Ok(piece), (pieces, machines, target)))
        }))
    }
}

/// Tells the machine that a command has ended, also where nobody waited for it.
struct Ends(Machines, AgentTarget);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.on_command(&self.1, -1);
    }
}

fn run(files: &mut Files, request: &ExecRequest) -> Vec<ExecOutput> {
    let words: Vec<&str> = match request.argv.last() {
        Some(line) if request.argv[0] == "sh" => line.split(' ').collect(),
        _ => request.argv.iter().map(String::as_str).collect(),
    };
    match words[..] {
        ["write", path, text] | ["echo", text, ">", path] => {
            files.insert(path.to_owned(), text.to_owned());
            vec![ExecOutput::Stdout("written\n".to_owned()), ExecOutput::Exit(0)]
        }
        ["read", path] => match files.get(path) {
            Some(text) => vec![ExecOutput::Stdout(text.clone()), ExecOutput::Exit(0)],
            None => vec![ExecOutput::Exit(1)],
        },
        ["false"] => vec![ExecOutput::Exit(1)],
        _ => panic!("the simulated machine knows no {words:?}"),
    }
}

pub(super) fn summary(files: &Files) -> Summary {
    let mut digest = Digest::default();
    for (path, text) in files {
        digest.add(&Entry {
            path: path.clone(),
            kind: Kind::File,
            mode: 0o644,
            mtime_ns: 0,
            size: text.len() as u64,
            blake3: Some(blake3::hash(text.as_bytes()).to_hex().to_string()),
            link: None,
        });
    }
    digest.summary()
}

/// The double's archive is the map as JSON; the control plane never looks inside.
pub(super) fn unpack(archive: &[u8]) -> PortResult<Files> {
    serde_json::from_slice(archive).map_err(|_| problem(ErrorKind::Corrupt, "not an archive"))
}

/// The files that a snapshot's or layer's archive holds.
pub(super) fn archived(archive: &[u8]) -> Option<Files> {
    unpack(archive).ok()
}
