//! What has to hold when everything has come to rest, past the faults.

use std::collections::{BTreeMap, BTreeSet};

use burstflare_core::domain::plan;
use burstflare_core::domain::session::has_machine;
use burstflare_ports::clock::Clock as _;
use burstflare_ports::id::Id;
use burstflare_ports::machine::{MachineKey, MachineOwner};
use burstflare_ports::record::{
    Build, BuildState, Goal, Origin, Release, ReleaseCause, Session, SessionState, Snapshot, SnapshotState,
    StopCause, Template, Version, VersionState, Workspace,
};
use burstflare_ports::store::{ChangeSet, Counter, Family, Guard, PAGE_LIMIT};
use burstflare_ports::stream::Body;

use super::agent::archived;
use super::fault::DEFECT;
use super::ledger::Wish;
use super::machines::Files;
use super::world::World;
use crate::stored;

/// The records of one workspace.
pub(super) struct Tenant {
    pub(super) id: Id<Workspace>,
    pub(super) templates: Vec<Template>,
    pub(super) versions: Vec<Version>,
    pub(super) builds: Vec<Build>,
    pub(super) releases: Vec<Release>,
    pub(super) sessions: Vec<Session>,
}

impl World {
    /// Who is still on the way somewhere.
    pub(super) async fn restless(&self) -> Vec<String> {
        let mut found = Vec::new();
        let sessions = self.store.restless_sessions(None, PAGE_LIMIT).await.unwrap().items;
        for session in sessions {
            if session.state != SessionState::Running || session.goal != Goal::Run {
                found.push(format!(
                    "{} is {:?} on its way to {:?}, deadline {:?}",
                    session.id, session.state, session.goal, session.deadline
                ));
            }
        }
        for tenant in self.tenants().await {
            let active = tenant.builds.iter().filter(|build| is_active(build));
            found.extend(
                active.map(|build| format!("{} is {:?} since {:?}", build.id, build.state, build.deadline)),
            );
        }
        // Some are to be delivered much later: those do not wait, unless they failed.
        let now = self.clock.now();
        let all = self.store.due(None, self.clock_end(), PAGE_LIMIT).await.unwrap();
        let late: Vec<_> = all.into_iter().filter(|it| it.attempts > 0 || it.due_at <= now).collect();
        if !late.is_empty() {
            found.push(format!("{} effects wait: {late:?}", late.len()));
        }
        found
    }

    fn clock_end(&self) -> burstflare_ports::time::Timestamp {
        burstflare_ports::time::Timestamp::from_millis(i64::MAX)
    }

    pub(super) async fn tenants(&self) -> Vec<Tenant> {
        let ids: BTreeSet<Id<Workspace>> =
            self.ledger().accounts.iter().map(|account| account.workspace).collect();
        let mut tenants = Vec::new();
        for id in ids {
            let store = &self.store;
            let templates = store.templates(id, None, PAGE_LIMIT).await.unwrap().items;
            let mut versions = Vec::new();
            for template in &templates {
                versions.extend(store.versions(id, template.id, None, PAGE_LIMIT).await.unwrap().items);
            }
            tenants.push(Tenant {
                id,
                templates,
                versions,
                builds: store.builds(id, None, PAGE_LIMIT).await.unwrap().items,
                releases: store.releases(id, None, None, PAGE_LIMIT).await.unwrap().items,
                sessions: store.sessions(id, None, PAGE_LIMIT).await.unwrap().items,
            });
        }
        tenants
    }

    /// Everything that is wrong.
    pub(super) async fn violations(&self) -> Vec<String> {
        let mut wrong = self.ledger().broken.clone();
        wrong.extend(self.faults.happened().into_keys().filter(|what| what.starts_with(DEFECT)));
        for tenant in self.tenants().await {
            self.acknowledged(&tenant, &mut wrong);
            self.counters(&tenant, &mut wrong).await;
            releases(&tenant, &mut wrong);
            self.versions(&tenant, &mut wrong).await;
            self.snapshots(&tenant, &mut wrong).await;
            self.kept(&tenant, &mut wrong).await;
            self.left_over(&tenant, &mut wrong).await;
            self.told(&tenant, &mut wrong).await;
            self.went_back(&tenant, &mut wrong).await;
            self.orphans(&tenant, &mut wrong).await;
            self.machines_of(&tenant, &mut wrong);
        }
        self.strays(&mut wrong).await;
        self.revoked(&mut wrong).await;
        wrong
    }

    /// No acknowledged write is lost.
    fn acknowledged(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let ledger = self.ledger();
        for (id, (workspace, name)) in &ledger.templates {
            let there = tenant.templates.iter().any(|found| found.id == *id && found.name.as_str() == name);
            if *workspace == tenant.id && !there {
                wrong.push(format!("template {id} `{name}` is lost"));
            }
        }
        for (id, note) in ledger.versions.iter().filter(|(_, note)| note.workspace == tenant.id) {
            match (tenant.versions.iter().find(|found| found.id == *id), &note.uploaded) {
                (None, _) => wrong.push(format!("version {id} is lost")),
                (Some(found), Some((build, _))) if found.build != Some(*build) => {
                    wrong.push(format!("the upload of version {id} is lost"));
                }
                _ => {}
            }
        }
        for release in ledger.releases.iter().filter(|release| release.workspace == tenant.id) {
            if !tenant.releases.contains(release) {
                wrong.push(format!("release {} is lost or was changed", release.id));
            }
        }
        for (id, note) in ledger.sessions.iter().filter(|(_, note)| note.workspace == tenant.id) {
            let found = tenant.sessions.iter().find(|found| found.id == *id);
            match found {
                None if !note.deleting => wrong.push(format!("session {id} is lost")),
                Some(_) if note.deleted => wrong.push(format!("session {id} was deleted and is there")),
                Some(found) => {
                    let obeyed = match note.wish {
                        // It may have ended by itself since, or not have found its way: then it says so.
                        Wish::Run => {
                            found.state == SessionState::Running
                                || found.failure.is_some()
                                || found.stopped_by == Some(StopCause::Idle)
                        }
                        Wish::Sleep => !has_machine(found.state),
                        Wish::Unclear => true,
                    };
                    if !obeyed {
                        wrong.push(format!("session {id} is {:?} against {:?}", found.state, note.wish));
                    }
                }
                None => {}
            }
        }
    }

    /// Counters equal recounts, and no plan is exceeded.
    async fn counters(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let plan = plan::by_name(self.plan);
        let running = tenant.sessions.iter().filter(|session| has_machine(session.state)).count();
        let mut expected = vec![
            (Counter::Templates, tenant.templates.len(), plan.templates),
            (Counter::Sessions, tenant.sessions.len(), plan.sessions),
            (Counter::Running, running, plan.running),
            (Counter::Builds, tenant.builds.iter().filter(|build| is_active(build)).count(), plan.builds),
        ];
        for template in &tenant.templates {
            let versions = tenant.versions.iter().filter(|version| version.template == template.id).count();
            expected.push((Counter::Versions(template.id), versions, plan.versions));
        }
        for (counter, count, limit) in expected {
            let count = count as u64;
            if count > limit {
                wrong.push(format!("{counter:?} is {count}, the plan allows {limit}"));
            }
            // The port tells no counter; a guard does.
            let above = self.is_below(tenant.id, counter, count).await;
            let below = count > 0 && self.is_below(tenant.id, counter, count - 1).await;
            if !above || below {
                let side = if above { "less" } else { "more" };
                wrong.push(format!("counter {counter:?} says {side} than the {count} there are"));
            }
        }
    }

    async fn is_below(&self, workspace: Id<Workspace>, counter: Counter, limit: u64) -> bool {
        let mut change = ChangeSet::new(Family::Workspace(workspace));
        change.guards.push(Guard::Below { counter, by: 0, limit });
        self.store.commit(&change).await.is_ok()
    }

    /// What an upload promised is built or says why not, and a ready version has its layer.
    async fn versions(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        for version in &tenant.versions {
            if let Some(bundle) = &version.bundle
                && self.blobs.head(&bundle.blob).await.unwrap().is_none()
            {
                wrong.push(format!("the bundle of {} is gone", version.id));
            }
            let build = version.build.and_then(|id| tenant.builds.iter().find(|build| build.id == id));
            let fits = match (version.state, build.map(|build| build.state)) {
                (VersionState::Draft, None) => true,
                (VersionState::Ready, Some(state)) => state == BuildState::Succeeded,
                (VersionState::Failed, Some(state)) => {
                    matches!(state, BuildState::Failed | BuildState::Cancelled)
                }
                _ => false,
            };
            if !fits {
                wrong.push(format!("{} is {:?}, its build {build:?}", version.id, version.state));
            }
            if version.state == VersionState::Ready {
                let mark = self.ledger().versions.get(&version.id).and_then(|note| note.uploaded.clone());
                let layer = match &version.layer {
                    Some(layer) => self.archive(&layer.blob).await,
                    None => None,
                };
                let whole = layer.is_some_and(|files| {
                    let setup = version.spec.as_ref().map_or(0, |spec| spec.setup.len());
                    let made = (0..setup).all(|step| files.contains_key(&format!("made-{step}")));
                    made && mark.is_none_or(|(_, mark)| files.get("mark") == Some(&mark))
                });
                if !whole {
                    wrong.push(format!("the layer of {} is not what was built", version.id));
                }
            }
        }
    }

    pub(super) async fn archive(&self, key: &burstflare_ports::blob::BlobKey) -> Option<Files> {
        let (_, stream) = self.blobs.get(key, None).await.ok()?;
        archived(&Body::Stream(stream).collect(1 << 20, "archive").await.ok()?)
    }

    /// The files of a complete snapshot, as a restore would find them.
    pub(super) async fn tree_of(&self, snapshot: &Snapshot) -> Option<Files> {
        if snapshot.format == 1 {
            return self.archive(&snapshot.blob).await;
        }
        stored::tree_of(&*self.store, &*self.blobs, snapshot).await
    }

    /// No snapshot that a session names is without its archive, nor is any that calls itself complete.
    async fn snapshots(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        for session in &tenant.sessions {
            let found = self.store.snapshots(tenant.id, session.id, None, PAGE_LIMIT).await.unwrap().items;
            let complete = |id| found.iter().any(|it| it.id == id && it.state == SnapshotState::Complete);
            for named in [session.snapshot, session.restore].into_iter().flatten() {
                if !complete(named) {
                    wrong.push(format!("{} names {named}, which is not there", session.id));
                }
            }
            let newest = found.iter().filter(|it| it.state == SnapshotState::Complete).map(|it| it.id).max();
            // Who went back to an older one continues from that.
            let went_back = self.ledger().sessions.get(&session.id).is_none_or(|note| note.rolls > 0);
            if newest != session.snapshot && !went_back {
                wrong.push(format!("{} names {:?}, newest is {newest:?}", session.id, session.snapshot));
            }
            for snapshot in found.iter().filter(|it| it.state == SnapshotState::Complete) {
                if self.tree_of(snapshot).await.is_none() {
                    wrong.push(format!("{} of {} cannot be restored", snapshot.id, session.id));
                }
            }
        }
    }

    /// A running session has its machine of its epoch, any other has none; and its files are there.
    fn machines_of(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let census: BTreeMap<MachineKey, _> = self
            .machines
            .census()
            .into_iter()
            .map(|(key, epoch, live, disk)| (key, (epoch, live, disk)))
            .collect();
        for session in &tenant.sessions {
            let key = MachineKey { workspace: tenant.id, owner: MachineOwner::Session(session.id) };
            let (epoch, live, disk) = census.get(&key).cloned().unwrap_or_default();
            let should = session.state == SessionState::Running;
            if live != should || (live && epoch != session.epoch) {
                let seen = if live { "a live" } else { "no" };
                wrong.push(format!(
                    "{} is {:?} at epoch {} and has {seen} machine of epoch {epoch}",
                    session.id, session.state, session.epoch
                ));
            }
            // A disk that is to be replaced promises nothing any more.
            let disk = disk.filter(|_| session.restore.is_none());
            if let (Some(disk), Some(note)) = (disk, self.ledger().sessions.get(&session.id)) {
                for (path, text) in &note.files {
                    if disk.get(path) != Some(text) {
                        wrong.push(format!("{}: {path} is lost from its disk", session.id));
                    }
                }
            }
        }
    }

    /// Every blob has a record that names it, whatever crashed before that was written.
    async fn orphans(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let mut named = BTreeSet::new();
        named.extend(tenant.versions.iter().filter_map(|it| it.bundle.as_ref().map(|it| it.blob.clone())));
        named.extend(tenant.versions.iter().filter_map(|it| it.layer.as_ref().map(|it| it.blob.clone())));
        for build in &tenant.builds {
            for attempt in 0..=build.attempt {
                let logs = self.store.log_chunks(tenant.id, build.id, attempt, 0, PAGE_LIMIT).await.unwrap();
                named.extend(logs.items.into_iter().map(|chunk| chunk.blob));
            }
        }
        let prefix = tenant.id.to_string().parse().unwrap();
        let mut after = None;
        loop {
            let page = self.blobs.list(&prefix, after.as_ref(), PAGE_LIMIT).await.unwrap();
            // Those of snapshots and packs are looked at elsewhere.
            let of_builds = ["/bundles/", "/layers/", "/logs/"];
            for key in page.keys.iter().filter(|key| of_builds.iter().any(|kind| key.as_str().contains(kind)))
            {
                if !named.contains(key) {
                    wrong.push(format!("blob {key} has no record"));
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return,
            }
        }
    }

    /// Every machine and every disk belongs to a session that is there.
    async fn strays(&self, wrong: &mut Vec<String>) {
        for (key, epoch, live, _) in self.machines.census() {
            let wanted = match key.owner {
                MachineOwner::Session(id) => self.store.session(key.workspace, id).await.unwrap().is_some(),
                MachineOwner::Build(_) => false,
            };
            if !wanted {
                let what = if live { "machine" } else { "disk" };
                wrong.push(format!("{what} of {} (epoch {epoch}) is left over", key.owner));
            }
        }
    }

    /// The reuse of a refresh token has ended the whole sign-in.
    async fn revoked(&self, wrong: &mut Vec<String>) {
        let revoked = self.ledger().revoked.clone();
        for access in revoked {
            let reply = self
                .call(|plane| async move { plane.authenticate(access.expose(), Origin::default()).await })
                .await;
            if matches!(reply, Some(Ok(_))) {
                wrong.push("a token is good although its sign-in's refresh token was used twice".to_owned());
            }
        }
    }
}

fn is_active(build: &Build) -> bool {
    matches!(build.state, BuildState::Queued | BuildState::Running)
}

/// Each template's history is numbered without a gap, and replaying it on a stack ends where the template is.
fn releases(tenant: &Tenant, wrong: &mut Vec<String>) {
    for template in &tenant.templates {
        let mut history: Vec<&Release> =
            tenant.releases.iter().filter(|release| release.template == template.id).collect();
        history.sort_by_key(|release| release.number);
        let mut line: Vec<Id<Version>> = Vec::new();
        for (index, release) in history.iter().enumerate() {
            match release.cause {
                ReleaseCause::Promote => line.push(release.version),
                ReleaseCause::Rollback => drop(line.pop()),
            }
            if release.number != index as u64 + 1 || line.last() != Some(&release.version) {
                wrong.push(format!("release {release:?} does not follow from those before"));
            }
        }
        if template.current_release != history.last().map(|release| release.id) {
            wrong.push(format!("{}'s current release is not the newest", template.id));
        }
        for release in history {
            let ready = tenant
                .versions
                .iter()
                .any(|version| version.id == release.version && version.state == VersionState::Ready);
            if !ready {
                wrong.push(format!("release {} is of a version that is not ready", release.id));
            }
        }
    }
}
