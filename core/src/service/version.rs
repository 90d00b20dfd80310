//! Versions: a label, a bundle uploaded once, and the build that it starts.

use std::sync::{Arc, Mutex, PoisonError};

use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Build, BuildState, BundleRef, Effect, Event, Template, Version, VersionSpec, VersionState, Workspace,
};
use burstflare_ports::store::{Bump, ChangeSet, CommitError, Counter, Family, Guard, Key, Put, Unique};
use burstflare_ports::stream::Body;
use burstflare_ports::text::Label;
use futures_util::StreamExt;
use serde_json::json;

use super::paging::list;
use super::{Caller, ControlPlane, List, PageQuery, refusal};
use crate::domain::build as rules;
use crate::domain::bundle::{BundleLimits, Inspector};
use crate::domain::manifest::{self, ManifestLimits};
use crate::domain::permission::{Action, Relation};
use crate::error::{Error, Kind, Result};

impl ControlPlane {
    /// Makes a version that waits for its bundle. A draft with the same label is answered again, so that a broken
    /// upload can be repeated.
    ///
    /// # Errors
    /// `label_taken`, `quota_exceeded`, `archived`.
    pub async fn create_version(&self, caller: &Caller, template: &str, label: Label) -> Result<Version> {
        caller.may(Action::TemplateManage, Relation::Own)?;
        let template = self.find_template(caller.workspace.id, template).await?;
        if template.archived_at.is_some() {
            return Err(archived());
        }
        let existing = self.store().version_by_label(template.workspace, template.id, &label).await?;
        if let Some(draft) = existing.filter(|found| found.state == VersionState::Draft) {
            return Ok(draft);
        }
        let now = self.now();
        let version = Version {
            id: self.new_id(now)?,
            workspace: template.workspace,
            template: template.id,
            label: label.clone(),
            state: VersionState::Draft,
            bundle: None,
            spec: None,
            build: None,
            layer: None,
            created_by: caller.user.id,
            created_at: now,
            revision: 1,
        };
        let counter = Counter::Versions(template.id);
        let mut change = ChangeSet::new(Family::Workspace(template.workspace));
        change.guards = vec![
            Guard::Free(Unique::VersionLabel(template.id, label.clone())),
            Guard::Below { counter, by: 1, limit: caller.plan().versions },
        ];
        change.bumps = vec![Bump { counter, by: 1 }];
        change.puts = vec![Put::Version(version.clone())];
        change.audit.push(caller.audit(self, "version.create", version.id, json!({ "label": label })));
        self.commit(change).await.map_err(|error| match error {
            CommitError::Refused(Guard::Free(_)) => Error::conflict(
                "label_taken",
                format!(
                    "Template `{}` has a version `{label}` already, and versions never change.",
                    template.name
                ),
                "Choose another --version.",
            ),
            error => refusal(error),
        })?;
        Ok(version)
    }

    /// The versions of a template.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn versions(
        &self,
        caller: &Caller,
        template: &str,
        page: PageQuery<Id<Version>>,
    ) -> Result<List<Version, Id<Version>>> {
        caller.may(Action::Read, Relation::Own)?;
        let template = self.find_template(caller.workspace.id, template).await?;
        let found = self.store().versions(template.workspace, template.id, page.after, page.limit).await?;
        Ok(list(found, |version| version.id))
    }

    /// A version by id or label.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn version(&self, caller: &Caller, template: &str, reference: &str) -> Result<Version> {
        caller.may(Action::Read, Relation::Own)?;
        let template = self.find_template(caller.workspace.id, template).await?;
        self.find_version(&template, reference).await
    }

    /// Takes a version's bundle, checks every entry and the manifest, and asks for the build. Nothing is kept of
    /// a refused bundle.
    ///
    /// # Errors
    /// what the inspector and the manifest's parser refuse, `already_uploaded`, `TooLarge`, `quota_exceeded`.
    pub async fn upload_bundle(
        &self,
        caller: &Caller,
        template: &str,
        reference: &str,
        body: Body,
    ) -> Result<(Version, Build)> {
        caller.may(Action::TemplateManage, Relation::Own)?;
        let template = self.find_template(caller.workspace.id, template).await?;
        let version = self.find_version(&template, reference).await?;
        if version.state != VersionState::Draft {
            return Err(already_uploaded());
        }
        let now = self.now();
        // The key is new for each try: a slower upload of the same version cannot overwrite a faster one.
        let build_id: Id<Build> = self.new_id(now)?;
        let blob = blob_key(&format!("{}/bundles/{}-{}.tar", template.workspace, version.id, build_id))?;
        let (bundle, spec) = self.store_bundle(caller, blob, body).await?;
        let blob = bundle.blob.clone();
        let (next, build, change) = self.first_build(caller, &version, build_id, bundle, spec);
        match self.commit(change).await {
            Ok(()) => Ok((next, build)),
            Err(CommitError::Refused(guard)) => {
                self.drop_blob(&blob).await;
                Err(match guard {
                    Guard::Revision(..) => already_uploaded(),
                    guard => refusal(CommitError::Refused(guard)),
                })
            }
            // Perhaps it was applied all the same. Then the record names the blob, and it must not go: it is
            // left where it is, and at worst room is lost.
            Err(CommitError::Failed(error)) => match self.find_version(&template, reference).await {
                Ok(found) if found.build == Some(build.id) => Ok((next, build)),
                _ => Err(error.into()),
            },
        }
    }

    fn first_build(
        &self,
        caller: &Caller,
        version: &Version,
        build_id: Id<Build>,
        bundle: BundleRef,
        spec: VersionSpec,
    ) -> (Version, Build, ChangeSet) {
        let now = self.now();
        let build = Build {
            id: build_id,
            workspace: version.workspace,
            template: version.template,
            version: version.id,
            state: BuildState::Queued,
            step: None,
            steps: u32::try_from(super::build_run::step_names(&spec).len()).unwrap_or(u32::MAX),
            attempt: 1,
            sealed_key: None,
            epoch: 1,
            deadline: Some(now.after(rules::QUEUE_DEADLINE)),
            failure: None,
            created_at: now,
            started_at: None,
            finished_at: None,
            revision: 1,
        };
        let next = Version {
            state: VersionState::Building,
            bundle: Some(bundle),
            spec: Some(spec),
            build: Some(build.id),
            revision: version.revision + 1,
            ..version.clone()
        };
        let mut change = ChangeSet::new(Family::Workspace(version.workspace));
        change.guards = vec![
            Guard::Revision(Key::Version(version.id), version.revision),
            Guard::Absent(Key::Build(build.id)),
            Guard::Below { counter: Counter::Builds, by: 1, limit: caller.plan().builds },
        ];
        change.bumps = vec![Bump { counter: Counter::Builds, by: 1 }];
        change.puts = vec![Put::Version(next.clone()), Put::Build(build.clone())];
        change.outbox = vec![(Effect::RunBuild { build: build.id }, now)];
        change.events = vec![build_event(&build)];
        change.audit.push(caller.audit(
            self,
            "version.upload",
            version.id,
            json!({ "build": build.id, "bundle": next.bundle.as_ref().map(|bundle| &bundle.blake3) }),
        ));
        (next, build, change)
    }

    /// Streams a bundle into the blob store through the inspector, and reads its manifest.
    async fn store_bundle(
        &self,
        caller: &Caller,
        blob: BlobKey,
        body: Body,
    ) -> Result<(BundleRef, VersionSpec)> {
        let limit = caller.plan().bundle;
        let inspector = Inspector::new(BundleLimits { packed: limit, ..BundleLimits::default() });
        // The blob store pulls the stream; the inspector looks at each chunk on its way and can end it.
        let shared: Arc<Mutex<(Option<Inspector>, Option<Error>)>> =
            Arc::new(Mutex::new((Some(inspector), None)));
        let watcher = Arc::clone(&shared);
        let watched = body.into_stream().map(move |chunk| {
            let chunk = chunk?;
            let mut guard = watcher.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(inspector) = guard.0.as_mut()
                && let Err(refused) = inspector.push(&chunk)
            {
                guard.0 = None;
                guard.1 = Some(refused.into());
                return Err(PortError::new(ErrorKind::Invalid, "bundle", "refused"));
            }
            Ok(chunk)
        });
        let stored = self.ports().blobs.put(&blob, Body::Stream(Box::pin(watched)), limit).await;
        let (inspector, refused) = {
            let mut guard = shared.lock().unwrap_or_else(PoisonError::into_inner);
            (guard.0.take(), guard.1.take())
        };
        if let Some(refused) = refused {
            return Err(refused);
        }
        let info = stored.map_err(|error| match error.kind() {
            ErrorKind::TooLarge => Error::new(
                Kind::TooLarge,
                "bundle_too_large",
                format!("The bundle has more than {} MiB.", limit >> 20),
                "Leave things out with .flareignore.",
            ),
            _ => error.into(),
        })?;
        match inspected(inspector) {
            Ok(spec) => Ok((BundleRef { blob, blake3: info.blake3, size: info.size }, spec)),
            Err(error) => {
                self.drop_blob(&blob).await;
                Err(error)
            }
        }
    }

    /// Removes a blob that no record names. If that fails it is only room that is lost, so it is no error.
    pub(super) async fn drop_blob(&self, blob: &BlobKey) {
        if let Err(error) = self.ports().blobs.delete(blob).await {
            tracing::warn!(%blob, %error, "an unused blob was left behind");
        }
    }

    pub(super) async fn find_version(&self, template: &Template, reference: &str) -> Result<Version> {
        let found = if let Ok(id) = reference.parse::<Id<Version>>() {
            let version = self.store().version(template.workspace, id).await?;
            version.filter(|version| version.template == template.id)
        } else if let Ok(label) = reference.parse::<Label>() {
            self.store().version_by_label(template.workspace, template.id, &label).await?
        } else {
            None
        };
        found.ok_or_else(|| Error::not_found("version"))
    }

    pub(super) async fn version_record(&self, workspace: Id<Workspace>, id: Id<Version>) -> Result<Version> {
        self.store().version(workspace, id).await?.ok_or_else(|| Error::not_found("version"))
    }
}

fn inspected(inspector: Option<Inspector>) -> Result<VersionSpec> {
    let inspector = inspector.ok_or_else(|| fault_of_inspector("it was taken twice"))?;
    let inspected = inspector.finish()?;
    Ok(manifest::parse(&inspected.manifest, &ManifestLimits::default())?)
}

pub(super) fn archived() -> Error {
    Error::conflict("archived", "The template is archived.", "Take it back with `flare template restore`.")
}

fn already_uploaded() -> Error {
    Error::conflict(
        "already_uploaded",
        "The version has its bundle already, and versions never change.",
        "Upload under another --version.",
    )
}

fn fault_of_inspector(what: &str) -> Error {
    PortError::new(ErrorKind::Internal, "bundle", what).into()
}

pub(super) fn blob_key(text: &str) -> Result<BlobKey> {
    text.parse().map_err(|error| super::fault("blob key", error))
}

pub(super) fn build_event(build: &Build) -> Event {
    Event {
        kind: "build.state".to_owned(),
        subject: build.id.to_string(),
        data: json!({
            "state": build.state,
            "step": build.step,
            "attempt": build.attempt,
            "version": build.version,
            "template": build.template,
        }),
        at: build.finished_at.or(build.started_at).unwrap_or(build.created_at),
    }
}
