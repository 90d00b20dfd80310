//! Builds, seen and steered by people.

use std::fmt::Display;

use burstflare_ports::id::Id;
use burstflare_ports::record::{AuditEntry, Build, Effect, Version, Workspace};
use burstflare_ports::store::{Bump, ChangeSet, Counter, Family, Guard, Key, Put};
use serde_json::json;

use super::paging::list;
use super::version::build_event;
use super::{Caller, ControlPlane, List, PageQuery};
use crate::domain::build::{self as rules, Event};
use crate::domain::permission::{Action, Relation};
use crate::error::{Error, Result};

impl ControlPlane {
    /// The builds of the workspace.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn builds(
        &self,
        caller: &Caller,
        page: PageQuery<Id<Build>>,
    ) -> Result<List<Build, Id<Build>>> {
        caller.may(Action::Read, Relation::Own)?;
        let found = self.store().builds(caller.workspace.id, page.after, page.limit).await?;
        Ok(list(found, |build| build.id))
    }

    /// A build.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn build(&self, caller: &Caller, reference: &str) -> Result<Build> {
        caller.may(Action::Read, Relation::Own)?;
        self.find_build(caller.workspace.id, reference).await
    }

    /// Tries a failed or cancelled build again.
    ///
    /// # Errors
    /// `build_not_over`, `quota_exceeded`.
    pub async fn retry_build(&self, caller: &Caller, reference: &str) -> Result<Build> {
        self.steer(caller, reference, &Event::Retry, "build.retry").await
    }

    /// Ends a build that waits or runs.
    ///
    /// # Errors
    /// `build_over`.
    pub async fn cancel_build(&self, caller: &Caller, reference: &str) -> Result<Build> {
        self.steer(caller, reference, &Event::Cancel, "build.cancel").await
    }

    async fn steer(&self, caller: &Caller, reference: &str, event: &Event, action: &str) -> Result<Build> {
        caller.may(Action::TemplateManage, Relation::Own)?;
        self.commit_decided(|| async move {
            let build = self.find_build(caller.workspace.id, reference).await?;
            let version = self.version_record(build.workspace, build.version).await?;
            let step = rules::apply(&build, event, self.now()).map_err(|illegal| {
                Error::conflict(
                    "build_state",
                    format!("The build is {:?}.", illegal.from).to_lowercase(),
                    "Only builds that wait or run can be cancelled, only failed or cancelled ones retried.",
                )
            })?;
            let mut change = self.build_change(&build, &version, &step);
            if step.active == (false, true) {
                change.guards.push(Guard::Below {
                    counter: Counter::Builds,
                    by: 1,
                    limit: caller.plan().builds,
                });
            }
            change.audit.push(caller.audit(self, action, build.id, json!({ "attempt": step.next.attempt })));
            Ok((Some(change), step.next))
        })
        .await
    }

    /// The commit of a build's transition: build and version, counter, machine and next attempt.
    pub(super) fn build_change(
        &self,
        build: &Build,
        version: &Version,
        step: &rules::Transition,
    ) -> ChangeSet {
        let now = self.now();
        let mut change = ChangeSet::new(Family::Workspace(build.workspace));
        change.guards.push(Guard::Revision(Key::Build(build.id), build.revision));
        change.puts.push(Put::Build(step.next.clone()));
        if version.state != step.version {
            change.guards.push(Guard::Revision(Key::Version(version.id), version.revision));
            change.puts.push(Put::Version(Version {
                state: step.version,
                revision: version.revision + 1,
                ..version.clone()
            }));
        }
        match step.active {
            (true, false) => change.bumps.push(Bump { counter: Counter::Builds, by: -1 }),
            (false, true) => change.bumps.push(Bump { counter: Counter::Builds, by: 1 }),
            _ => {}
        }
        // An attempt that ends, however it ends, takes its machine along.
        if build.attempt != step.next.attempt || !step.active.1 {
            change
                .outbox
                .push((Effect::DestroyMachine { owner: build.id.to_string(), epoch: build.epoch }, now));
        }
        if let Some(at) = step.run_at {
            change.outbox.push((Effect::RunBuild { build: build.id }, at));
        }
        change.events.push(burstflare_ports::record::Event { at: now, ..build_event(&step.next) });
        change
    }

    pub(super) async fn find_build(&self, workspace: Id<Workspace>, reference: &str) -> Result<Build> {
        let found = match reference.parse() {
            Ok(id) => self.store().build(workspace, id).await?,
            Err(_) => None,
        };
        found.ok_or_else(|| Error::not_found("build"))
    }

    /// A line for the audit log that no person caused.
    pub(super) fn system_audit(
        &self,
        workspace: Id<Workspace>,
        action: &str,
        target: impl Display + Copy,
        detail: serde_json::Value,
    ) -> (Option<Id<Workspace>>, AuditEntry) {
        let entry = AuditEntry {
            at: self.now(),
            actor: burstflare_ports::record::Actor::System,
            origin: burstflare_ports::record::Origin::default(),
            action: action.to_owned(),
            target: target.to_string(),
            detail,
        };
        (Some(workspace), entry)
    }
}
