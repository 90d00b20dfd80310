//! Builds, driven step by step: the same named steps for every workflow engine.
//!
//! `prepare` (a clean machine, the bundle unpacked) → `setup-1` … (the manifest's lines) → `capture` (the tree as a layer)
//! → `record`. A setup step that was cut off cannot be run again on the same machine, for nobody knows how far it came:
//! the attempt is lost and the next one begins on a clean machine.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::drive::{JobHandler, JobOutcome, StepOutcome, StepRunner};
use burstflare_ports::error::{ErrorKind, PortError, PortResult, Retry};
use burstflare_ports::id::Id;
use burstflare_ports::machine::{AgentTarget, DiskPlan, LayerRef, MachineKey, MachineOwner, MachineSpec};
use burstflare_ports::queue::Job;
use burstflare_ports::record::{Build, BuildState, Effect, Failure, Version, VersionSpec, Workspace};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, Put};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::{Boot, ExecOutput, ExecRequest, PROTOCOL};
use burstflare_ports::workflow::Run;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, pin_mut};
use serde_json::json;

use super::ControlPlane;
use super::build_log::LogWriter;
use crate::domain::build::{self as rules, Event};
use crate::domain::plan;
use crate::error::{Error, Kind};

/// For the agent of a new machine to answer.
const BOOT: Duration = Duration::from_secs(30);
/// How much longer than the command a setup step's lease holds.
const SLACK: Duration = Duration::from_secs(60);
/// The longest line that a log is made of in memory.
const LINE: usize = 1 << 20;
/// The largest layer archive.
const LAYER: u64 = 16 << 30;
/// Where shells and commands begin.
pub(super) const WORKSPACE: &str = "/workspace";
/// The user's home.
pub(super) const HOME: &str = "/home/flare";

/// The names of a build's steps.
pub(super) fn step_names(spec: &VersionSpec) -> Vec<String> {
    let setup = (1..=spec.setup.len()).map(|number| format!("setup-{number}"));
    std::iter::once("prepare".to_owned())
        .chain(setup)
        .chain(["capture".to_owned(), "record".to_owned()])
        .collect()
}

/// What a step found out.
enum Verdict {
    /// Go on.
    Done,
    /// The user's fault, final.
    Failed(Failure),
}

#[async_trait]
impl JobHandler for ControlPlane {
    async fn handle(&self, job: &Job, _attempt: u32) -> PortResult<JobOutcome> {
        let Job::RunBuild { workspace, build } = job;
        let Some(build) = self.store().build(*workspace, *build).await? else {
            return Ok(JobOutcome::Done);
        };
        if build.state == BuildState::Queued {
            let run = Run { workspace: build.workspace, build: build.id, attempt: build.attempt };
            self.ports().workflows.start(run).await?;
        }
        Ok(JobOutcome::Done)
    }

    async fn dead(&self, job: &Job) -> PortResult<()> {
        let Job::RunBuild { workspace, build } = job;
        let Some(record) = self.store().build(*workspace, *build).await? else { return Ok(()) };
        // One that runs was handed over after all, by another delivery or by reconcile.
        if record.state != BuildState::Queued {
            return Ok(());
        }
        let failure = failure("dead_lettered", "The build could not be handed to a worker.", RETRY);
        self.fail_build(*workspace, *build, record.attempt, &Event::Fail(failure)).await
    }
}

#[async_trait]
impl StepRunner for ControlPlane {
    async fn steps(&self, run: &Run) -> PortResult<Vec<String>> {
        match self.attempt(run).await? {
            Some((_, _, spec)) => Ok(step_names(&spec)),
            None => Ok(Vec::new()),
        }
    }

    async fn step(&self, run: &Run, name: &str) -> PortResult<StepOutcome> {
        let Some((build, version, spec)) = self.attempt(run).await? else { return Ok(StepOutcome::End) };
        let again = build.step.as_deref() == Some(name);
        if again && name.starts_with("setup-") {
            let failure = failure("interrupted", "The server stopped during a setup step.", RETRY);
            self.fail_build(run.workspace, run.build, run.attempt, &Event::Lost(failure)).await?;
            return Ok(StepOutcome::End);
        }
        let lease = lease(name, &plan::by_name(&self.plan_name(run).await?));
        let Some(build) = self.begin_step(&build, &version, name, lease).await? else {
            return match self.attempt(run).await? {
                // Still this attempt's turn: look again instead of leaving the build to nobody.
                Some(_) => Err(PortError::new(ErrorKind::Unavailable, "build.step", "changed meanwhile")),
                None => Ok(StepOutcome::End),
            };
        };
        let verdict = match name {
            "prepare" => self.prepare(&build, &version, &spec, again).await,
            "capture" => self.capture(&build, spec.limits.disk).await,
            "record" => return self.record(&build).await,
            setup => self.setup(&build, &spec, setup, lease.saturating_sub(SLACK)).await,
        };
        match verdict {
            Ok(Verdict::Done) => Ok(StepOutcome::Next),
            Ok(Verdict::Failed(failure)) => {
                self.fail_build(run.workspace, run.build, run.attempt, &Event::Fail(failure)).await?;
                Ok(StepOutcome::End)
            }
            // Cancelled meanwhile: whatever the error is, it is the cancel's doing.
            Err(_) if self.attempt(run).await?.is_none() => Ok(StepOutcome::End),
            // A setup step cannot be repeated on the machine it has touched.
            Err(error) if name.starts_with("setup-") || error.retry() == Retry::Never => {
                tracing::warn!(build = %run.build, step = name, ?error, "build attempt lost");
                let failure = failure("machine_lost", &error.to_string(), RETRY);
                self.fail_build(run.workspace, run.build, run.attempt, &Event::Lost(failure)).await?;
                Ok(StepOutcome::End)
            }
            Err(error) => Err(error),
        }
    }

    async fn abandon(&self, run: &Run, reason: &str) -> PortResult<()> {
        let failure = failure("infrastructure", reason, RETRY);
        self.fail_build(run.workspace, run.build, run.attempt, &Event::Lost(failure)).await
    }
}

const RETRY: &str = "It is tried again by itself; later with `flare build retry`.";

impl ControlPlane {
    /// Build, version and manifest, if this attempt is still the one that counts.
    async fn attempt(&self, run: &Run) -> PortResult<Option<(Build, Version, VersionSpec)>> {
        let Some(build) = self.store().build(run.workspace, run.build).await? else { return Ok(None) };
        if build.attempt != run.attempt || !rules::is_active(build.state) {
            return Ok(None);
        }
        let Some(version) = self.store().version(run.workspace, build.version).await? else {
            return Ok(None);
        };
        Ok(version.spec.clone().map(|spec| (build, version, spec)))
    }

    async fn plan_name(&self, run: &Run) -> PortResult<String> {
        Ok(self.store().workspace(run.workspace).await?.map(|found| found.plan).unwrap_or_default())
    }

    /// Records that a step begins and takes the lease; `None` when somebody else changed the build.
    async fn begin_step(
        &self,
        build: &Build,
        version: &Version,
        name: &str,
        lease: Duration,
    ) -> PortResult<Option<Build>> {
        let event = Event::Step { name: name.to_owned(), lease };
        let Ok(mut step) = rules::apply(build, &event, self.now()) else { return Ok(None) };
        // A key that was committed before is the one of a machine that may run already.
        if step.next.sealed_key.is_none() {
            let key = STANDARD.encode(self.random::<32>().map_err(into_port)?);
            let place = key_place(build);
            let sealed = self.seal(build.workspace, &place, key.as_bytes()).map_err(into_port)?;
            step.next.sealed_key = Some(sealed);
        }
        match self.commit(self.build_change(build, version, &step)).await {
            Ok(()) => Ok(Some(step.next)),
            Err(CommitError::Refused(_)) => Ok(None),
            Err(CommitError::Failed(error)) => Err(error),
        }
    }

    async fn prepare(
        &self,
        build: &Build,
        version: &Version,
        spec: &VersionSpec,
        again: bool,
    ) -> PortResult<Verdict> {
        let mut log = LogWriter::open(self, build).await.map_err(into_port)?;
        log.line(&format!("── attempt {}: a clean machine from `{}`", build.attempt, spec.base))
            .await
            .map_err(into_port)?;
        let target = self.build_target(build)?;
        let spec = MachineSpec {
            machine: target.machine,
            epoch: build.epoch,
            hostname: "build".to_owned(),
            base: spec.base.clone(),
            layer: None,
            disk: DiskPlan::Fresh,
            limits: spec.limits,
            boot: boot(&target, STANDARD.encode(self.random::<32>().map_err(into_port)?), "build", spec),
        };
        if again {
            // Half a bundle may lie on the machine that the first try began.
            self.ports().runtime.destroy(target.machine, build.epoch).await?;
        }
        self.ports().runtime.start(spec).await?;
        self.agent_ready(&target, BOOT).await?;
        let Some(bundle) = &version.bundle else {
            return Ok(Verdict::Failed(failure(
                "no_bundle",
                "The version has no bundle.",
                "Upload it again.",
            )));
        };
        let (_, stream) = self.ports().blobs.get(&bundle.blob, None).await?;
        let unpacked = match self.agent_unpack(&target, stream).await {
            Err(error) if error.kind() == ErrorKind::Invalid => {
                return Ok(Verdict::Failed(failure(
                    "bundle_refused",
                    error.context(),
                    "Correct the folder and upload a new version.",
                )));
            }
            other => other?,
        };
        log.line(&format!("── unpacked {} entries, {} bytes", unpacked.files, unpacked.bytes))
            .await
            .map_err(into_port)?;
        log.flush().await.map_err(into_port)?;
        Ok(Verdict::Done)
    }

    async fn setup(
        &self,
        build: &Build,
        spec: &VersionSpec,
        name: &str,
        limit: Duration,
    ) -> PortResult<Verdict> {
        let number: usize = name.trim_start_matches("setup-").parse().unwrap_or(0);
        let Some(line) = number.checked_sub(1).and_then(|index| spec.setup.get(index)) else {
            return Err(PortError::new(ErrorKind::Internal, "build.step", format!("no step `{name}`")));
        };
        let target = self.build_target(build)?;
        let mut log = LogWriter::open(self, build).await.map_err(into_port)?;
        log.line(&format!("── {name}: {line}")).await.map_err(into_port)?;
        let request = ExecRequest {
            argv: ["sh", "-eu", "-c", line].map(str::to_owned).to_vec(),
            cwd: Some(WORKSPACE.to_owned()),
            // Reproducible where tools honour it: the same folder gives the same times.
            env: BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), "315532800".to_owned())]),
            timeout_ms: u64::try_from(limit.as_millis()).ok(),
        };
        let body = self.agent_exec(&target, &request).await?.into_body();
        let end = self.follow(body, &mut log).await?;
        let verdict = match end {
            ExecOutput::Exit(0) => Verdict::Done,
            ExecOutput::Exit(status) => setup_failed(number, line, &format!("ended with status {status}")),
            ExecOutput::Signal(signal) => setup_failed(number, line, &format!("was ended by SIG{signal}")),
            ExecOutput::Error(reason) => setup_failed(number, line, &reason),
            _ => {
                return Err(PortError::new(ErrorKind::Unavailable, "build.step", "the output broke off"));
            }
        };
        if let Verdict::Failed(failure) = &verdict {
            log.line(&format!("── {}", failure.message)).await.map_err(into_port)?;
        }
        log.flush().await.map_err(into_port)?;
        Ok(verdict)
    }

    /// Writes a command's output to the log until it ends; answers the last line.
    async fn follow(&self, body: Body, log: &mut LogWriter) -> PortResult<ExecOutput> {
        let mut stream = body.into_stream();
        let mut rest: Vec<u8> = Vec::new();
        let mut last = None;
        loop {
            let chunk = match log.due_in() {
                None => stream.next().await,
                Some(wait) => {
                    let next = stream.next();
                    let pause = self.ports().clock.sleep(wait);
                    pin_mut!(next, pause);
                    match select(next, pause).await {
                        Either::Left((chunk, _)) => chunk,
                        Either::Right(_) => {
                            log.flush().await.map_err(into_port)?;
                            continue;
                        }
                    }
                }
            };
            let Some(chunk) = chunk else { break };
            rest.extend_from_slice(&chunk?);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let output = serde_json::from_slice(&line).map_err(|error| {
                    PortError::new(ErrorKind::Corrupt, "agent.exec", "an unreadable line").with_source(error)
                })?;
                match &output {
                    ExecOutput::Stdout(text) | ExecOutput::Stderr(text) => {
                        log.write(text.as_bytes()).await.map_err(into_port)?;
                    }
                    ExecOutput::StdoutB64(text) | ExecOutput::StderrB64(text) => {
                        let bytes = STANDARD.decode(text).unwrap_or_default();
                        log.write(&bytes).await.map_err(into_port)?;
                    }
                    _ => last = Some(output),
                }
            }
            if rest.len() > LINE {
                return Err(PortError::new(ErrorKind::Corrupt, "agent.exec", "an endless line"));
            }
        }
        last.ok_or_else(|| PortError::new(ErrorKind::Unavailable, "agent.exec", "the output broke off"))
    }

    async fn capture(&self, build: &Build, limit: u64) -> PortResult<Verdict> {
        let target = self.build_target(build)?;
        self.agent_quiesce(&target, Duration::from_secs(5)).await?;
        let blob = super::version::blob_key(&format!(
            "{}/layers/{}-{}.tar.zst",
            build.workspace, build.id, build.attempt
        ))
        .map_err(into_port)?;
        let (summary, size) = self.store_tree(&target, &blob, LAYER).await?;
        let layer = LayerRef { digest: summary.digest, blob, size, files: summary.files };
        // Holes and hard links take their full size once they are unpacked, outside every machine's limit.
        if summary.bytes > limit {
            self.drop_blob(&layer.blob).await;
            return Ok(too_large(&format!("{} bytes, and its disk holds {limit}", summary.bytes)));
        }
        // Unpacking it now verifies every byte that was stored, and makes the first start quick.
        match self.ports().runtime.prepare(&layer).await {
            Err(error) if error.kind() == ErrorKind::TooLarge => return Ok(too_large(error.context())),
            other => other?,
        }
        let Some(version) = self.store().version(build.workspace, build.version).await? else {
            return Err(PortError::new(ErrorKind::NotFound, "build.capture", "the version is gone"));
        };
        let mut log = LogWriter::open(self, build).await.map_err(into_port)?;
        log.line(&format!(
            "── captured {} entries, {} bytes, layer {}",
            layer.files,
            summary.bytes,
            layer.digest.get(..16).unwrap_or_default()
        ))
        .await
        .map_err(into_port)?;
        log.flush().await.map_err(into_port)?;
        let mut change = ChangeSet::new(Family::Workspace(build.workspace));
        change.guards = vec![
            Guard::Revision(Key::Version(version.id), version.revision),
            Guard::Revision(Key::Build(build.id), build.revision),
        ];
        // The layer of an attempt that was lost after this step: nothing has ever been started from it.
        if let Some(old) = version.layer.as_ref().filter(|old| old.blob != layer.blob) {
            change.outbox.push((Effect::DeleteBlob { blob: old.blob.clone() }, self.now()));
        }
        // The build's record is written as it is, so that a cancel in between refuses this commit.
        change.puts = vec![
            Put::Version(Version { layer: Some(layer), revision: version.revision + 1, ..version }),
            Put::Build(Build { revision: build.revision + 1, ..build.clone() }),
        ];
        match self.commit(change).await {
            Ok(()) => Ok(Verdict::Done),
            Err(CommitError::Refused(_)) => {
                Err(PortError::new(ErrorKind::Unavailable, "build.capture", "changed meanwhile"))
            }
            Err(CommitError::Failed(error)) => Err(error),
        }
    }

    async fn record(&self, build: &Build) -> PortResult<StepOutcome> {
        self.commit_decided(|| async move {
            let Some(build) = self.store().build(build.workspace, build.id).await? else {
                return Ok((None, ()));
            };
            let version = self.version_record(build.workspace, build.version).await?;
            let Ok(step) = rules::apply(&build, &Event::Succeed, self.now()) else {
                return Ok((None, ()));
            };
            let mut change = self.build_change(&build, &version, &step);
            change.audit.push(self.system_audit(
                build.workspace,
                "build.succeed",
                build.id,
                json!({ "version": version.id, "layer": version.layer.as_ref().map(|layer| &layer.digest) }),
            ));
            Ok((Some(change), ()))
        })
        .await
        .map_err(into_port)?;
        Ok(StepOutcome::End)
    }

    /// Moves a build on by an event that ends its attempt, unless it has moved on already.
    pub(super) async fn fail_build(
        &self,
        workspace: Id<Workspace>,
        id: Id<Build>,
        attempt: u32,
        event: &Event,
    ) -> PortResult<()> {
        self.commit_decided(|| async move {
            let Some(build) = self.store().build(workspace, id).await? else { return Ok((None, ())) };
            if attempt != build.attempt {
                return Ok((None, ()));
            }
            let version = self.version_record(workspace, build.version).await?;
            let Ok(step) = rules::apply(&build, event, self.now()) else { return Ok((None, ())) };
            let mut change = self.build_change(&build, &version, &step);
            if !step.active.1 {
                change.audit.push(self.system_audit(
                    workspace,
                    "build.fail",
                    id,
                    json!({ "failure": step.next.failure }),
                ));
            }
            Ok((Some(change), ()))
        })
        .await
        .map_err(into_port)
    }

    fn build_target(&self, build: &Build) -> PortResult<AgentTarget> {
        let sealed = build.sealed_key.as_deref().unwrap_or_default();
        let key = self.unseal(build.workspace, &key_place(build), sealed).map_err(into_port)?;
        Ok(AgentTarget {
            machine: MachineKey { workspace: build.workspace, owner: MachineOwner::Build(build.id) },
            epoch: build.epoch,
            key: Secret::new(String::from_utf8_lossy(key.expose()).into_owned()),
        })
    }
}

fn key_place(build: &Build) -> String {
    format!("{}/{}/agent", build.id, build.epoch)
}

fn lease(step: &str, plan: &plan::Plan) -> Duration {
    // The command's own deadline comes first: a step that takes too long is the author's to know, not a lost worker.
    if step.starts_with("setup-") { plan.step + SLACK } else { rules::STEP_DEADLINE }
}

/// What an agent is told at its start.
pub(super) fn boot(target: &AgentTarget, host_seed: String, hostname: &str, spec: &VersionSpec) -> Boot {
    Boot {
        protocol: PROTOCOL,
        machine: target.machine.owner.to_string(),
        epoch: target.epoch,
        key: target.key.clone(),
        ssh_host_seed: Secret::new(host_seed),
        hostname: hostname.to_owned(),
        roots: vec![WORKSPACE.to_owned(), HOME.to_owned()],
        home: HOME.to_owned(),
        env: spec.env.clone(),
        on_start: spec.on_start.clone(),
        egress: None,
        path: Vec::new(),
    }
}

fn failure(code: &str, message: &str, hint: &str) -> Failure {
    Failure { code: code.to_owned(), message: message.to_owned(), hint: hint.to_owned() }
}

fn too_large(how: &str) -> Verdict {
    Verdict::Failed(failure(
        "layer_too_large",
        &format!("What the build left is too large: {how}."),
        "Remove what sessions do not need in the last setup step, or raise `disk` in flare.toml.",
    ))
}

fn setup_failed(number: usize, line: &str, how: &str) -> Verdict {
    let line: String = line.chars().take(200).collect();
    Verdict::Failed(failure(
        "setup_failed",
        &format!("Setup step {number} (`{line}`) {how}."),
        "Read `flare build log`. Only /workspace and /home/flare can be written: install below the home folder.",
    ))
}

/// A use case's refusal where a port's error is wanted.
pub(super) fn into_port(error: Error) -> PortError {
    if let Some(source) = error.source {
        return *source;
    }
    let kind = match error.kind {
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Timeout => ErrorKind::Timeout,
        Kind::Full => ErrorKind::Full,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Conflict => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    PortError::new(kind, error.code, error.message)
}
