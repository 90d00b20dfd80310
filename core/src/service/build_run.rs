//! Builds, driven step by step: the same named steps for every workflow engine.
//!
//! `prepare` (a clean machine, the bundle unpacked) → `setup-1` … (the manifest's lines) → `capture` (the tree as a layer)
//! → `record`. A setup step that was cut off cannot be run again on the same machine, for nobody knows how far it came:
//! the attempt is lost and the next one begins on a clean machine.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::drive::{JobHandler, JobOutcome, StepOutcome, StepRunner};
use burstflare_ports::error::{ErrorKind, PortError, PortResult, Retry};
use burstflare_ports::id::Id;
use burstflare_ports::queue::Job;
use burstflare_ports::record::{Build, BuildState, Failure, Version, VersionSpec, Workspace};
use burstflare_ports::store::CommitError;
use burstflare_ports::workflow::Run;
use serde_json::json;

use super::{ControlPlane, failure, into_port};
use crate::domain::build::{self as rules, Event};
use crate::domain::plan;

/// How much longer than the command a setup step's lease holds.
const SLACK: Duration = Duration::from_secs(60);

/// The names of a build's steps.
pub(super) fn step_names(spec: &VersionSpec) -> Vec<String> {
    let setup = (1..=spec.setup.len()).map(|number| format!("setup-{number}"));
    std::iter::once(rules::FIRST_STEP.to_owned())
        .chain(setup)
        .chain(["capture".to_owned(), "record".to_owned()])
        .collect()
}

/// What a step found out.
pub(super) enum Verdict {
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
            rules::FIRST_STEP => self.prepare(&build, &version, &spec, again).await,
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

pub(super) const RETRY: &str = "It is tried again by itself; later with `flare build retry`.";

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
            let place = key_place(&step.next);
            let sealed = self.seal(build.workspace, &place, key.as_bytes()).map_err(into_port)?;
            step.next.sealed_key = Some(sealed);
        }
        match self.commit(self.build_change(build, version, &step)).await {
            Ok(()) => Ok(Some(step.next)),
            Err(CommitError::Refused(_)) => Ok(None),
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
}

pub(super) fn key_place(build: &Build) -> String {
    format!("{}/{}/agent", build.id, build.epoch)
}

fn lease(step: &str, plan: &plan::Plan) -> Duration {
    // The command's own deadline comes first: a step that takes too long is the author's to know, not a lost worker.
    if step.starts_with("setup-") { plan.step + SLACK } else { rules::STEP_DEADLINE }
}
