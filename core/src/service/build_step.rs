//! What the steps of a build do on its machine.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    AgentTarget, DiskPlan, IMAGE, LayerRef, MachineKey, MachineOwner, MachineSpec,
};
use burstflare_ports::record::{Build, Effect, Version, VersionSpec};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, Put};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::{ExecOutput, ExecRequest};
use futures_util::future::{Either, select};
use futures_util::{StreamExt, pin_mut};

use super::boot::{WORKSPACE, boot};
use super::build_log::LogWriter;
use super::build_run::{Verdict, key_place};
use super::{ControlPlane, failure, into_port};

/// For the agent of a new machine to answer.
const BOOT: Duration = Duration::from_secs(30);
/// The longest line that a log is made of in memory.
const LINE: usize = 1 << 20;
/// The largest layer archive.
const LAYER: u64 = 16 << 30;

impl ControlPlane {
    pub(super) async fn prepare(
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
        match self.ports().runtime.start(spec).await {
            // What is missing or unknown is the same at the next attempt.
            Err(error) if error.kind() == ErrorKind::NotFound && error.operation() == IMAGE => {
                return Ok(Verdict::Failed(failure(
                    "image_not_found",
                    error.context(),
                    "Bring the image to the server's engine, then retry the build.",
                )));
            }
            Err(error) if error.kind() == ErrorKind::Invalid => {
                return Ok(Verdict::Failed(failure(
                    "machine_refused",
                    error.context(),
                    "Correct `base` in flare.toml and upload a new version.",
                )));
            }
            other => other?,
        };
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

    pub(super) async fn setup(
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
            ..ExecRequest::default()
        };
        let body = self.agent_exec(&target, &request).await?.into_body();
        let end = self.follow(body, &mut log).await?;
        let verdict = match end {
            ExecOutput::Exit(0) => Verdict::Done,
            ExecOutput::Exit(status) => setup_failed(number, line, &format!("ended with status {status}")),
            ExecOutput::Signal(signal) => setup_failed(number, line, &format!("was ended by SIG{signal}")),
            ExecOutput::TimedOut(millis) => {
                setup_failed(number, line, &format!("took longer than {} s and was ended", millis / 1000))
            }
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

    pub(super) async fn capture(&self, build: &Build, limit: u64) -> PortResult<Verdict> {
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
