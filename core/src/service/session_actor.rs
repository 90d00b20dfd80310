//! The session's actor: looks at the record and does what is next, one look at a time.
//!
//! Every effect on a machine is idempotent and carries the epoch; every outcome is committed against the revision that
//! was read. So a look that is cut off anywhere is simply begun again.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::drive::SessionActor;
use burstflare_ports::error::{ErrorKind, PortError, PortResult, Retry};
use burstflare_ports::id::Id;
use burstflare_ports::machine::{
    AgentTarget, DiskPlan, DiskState, IMAGE, MachineKey, MachineOwner, MachineSpec, MachineStatus,
};
use burstflare_ports::record::{
    Effect, Event as Notice, Failure, Goal, LayerRef, Session, SessionState, Snapshot, SnapshotKind,
    SnapshotState, VersionSpec, Workspace,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{Bump, ChangeSet, CommitError, Counter, Family, Guard, Key};
use burstflare_ports::time::Timestamp;
use futures_util::future::{Either, select, try_join};
use futures_util::pin_mut;
use serde_json::json;

use super::boot::boot;
use super::idle::IdleLook;
use super::session::{key_place, seed_place};
use super::snapshot_take::Mode;
use super::{ATTEMPTS, ControlPlane, failure, into_port};
use crate::domain::plan;
use crate::domain::session::{self as rules, Event, Work};
use crate::domain::snapshot::TAKE_DEADLINE;
use crate::error::Result;

/// For the agent of a new machine to answer.
const BOOT: Duration = Duration::from_secs(30);
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often a running machine is looked at when nothing else happens. Its end is heard at once: the call that follows its
/// ports ends with it, and wakes its actor. This is for what cannot be heard, so it may be seldom, and costs next to nothing.
const WATCH: Duration = Duration::from_secs(1800);
/// How often long work asks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(2);
/// Transitions of one look; a session that wants more is looked at again.
const STEPS: usize = 8;

/// What a look at a running machine found.
enum Watched {
    /// This.
    Happened(Event),
    /// Nothing; look again at this moment.
    Until(Timestamp),
}

#[async_trait]
impl SessionActor for ControlPlane {
    async fn tend(&self, workspace: Id<Workspace>, session: Id<Session>) -> PortResult<Option<Timestamp>> {
        for _ in 0..STEPS {
            let Some(record) = self.store().session(workspace, session).await? else { return Ok(None) };
            let work = rules::work(&record, self.now());
            if work != Work::Watch {
                self.inner.idle.forget(record.id);
            }
            let event = match work {
                Work::Rest => return Ok(None),
                Work::BeginStart => Event::Start,
                Work::BringUp => match self.while_wanted(&record, self.bring_up(&record)).await? {
                    Some(event) => event,
                    None => continue,
                },
                Work::GiveUpStart => self.give_up(&record).await?,
                Work::TakeDown => match self.while_wanted(&record, self.take_down(&record)).await? {
                    Some(event) => event,
                    None => continue,
                },
                Work::Kill => self.kill(&record).await?,
                Work::Remove => {
                    self.remove(&record).await?;
                    continue;
                }
                Work::Watch => match self.watch(&record).await? {
                    Watched::Happened(event) => event,
                    Watched::Until(next) => {
                        self.watch_ports(&record);
                        match self.while_wanted(&record, self.tend_snapshots(&record)).await? {
                            Some(due) => return Ok(Some(due.map_or(next, |due| due.min(next)))),
                            None => continue,
                        }
                    }
                },
            };
            self.record_outcome(&record, &event).await?;
        }
        Ok(Some(self.now()))
    }
}

impl ControlPlane {
    /// Does long work for as long as the record asks for it. A force-stop or a delete ends a start or a stop that
    /// hangs, and so does its deadline. `None` when the work was given up: its effects are idempotent, and the next
    /// look sees to them.
    async fn while_wanted<T>(
        &self,
        session: &Session,
        work: impl Future<Output = PortResult<T>> + Send,
    ) -> PortResult<Option<T>> {
        pin_mut!(work);
        loop {
            // The work goes on while it is looked: it may hold what the look waits for, a connection to the records say.
            let look = async {
                self.ports().clock.sleep(LOOK).await;
                self.store().session(session.workspace, session.id).await
            };
            pin_mut!(look);
            match select(work.as_mut(), look).await {
                Either::Left((outcome, _)) => return outcome.map(Some),
                Either::Right((fresh, _)) => {
                    // A store that does not answer now is no reason to give anything up.
                    let Ok(fresh) = fresh else { continue };
                    let wanted = fresh.is_some_and(|fresh| {
                        fresh.epoch == session.epoch
                            && rules::work(&fresh, self.now()) == rules::work(session, session.changed_at)
                    });
                    if !wanted {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Commits what a look found out, unless the record has left the state that was looked at. What people
    /// want afterwards may have changed meanwhile: that stays as they said.
    async fn record_outcome(&self, session: &Session, event: &Event) -> PortResult<()> {
        for _ in 0..ATTEMPTS {
            let Some(fresh) = self.store().session(session.workspace, session.id).await? else {
                return Ok(());
            };
            let same = fresh.state == session.state && fresh.epoch == session.epoch;
            if !same || (*event == Event::Start && fresh.goal != Goal::Run) {
                return Ok(());
            }
            let step = self.step(&fresh, event).map_err(into_port)?;
            let plan = self.session_plan(&fresh).await?;
            let mut change = self.session_change(&fresh, &step, plan.running);
            if step.next.state == SessionState::Sleeping {
                change.events.push(slept(&step.next));
            }
            if let (Some(snapshot), None, Some(failure)) =
                (fresh.restore, step.next.restore, &step.next.failure)
            {
                change.events.push(not_restored(&step.next, snapshot, failure));
            }
            // The actor is looking already: it need not be woken for what it does next itself.
            change.outbox.clear();
            change.audit.push(self.system_audit(
                fresh.workspace,
                &format!("session.{}", event.name()),
                fresh.id,
                json!({ "from": fresh.state, "to": step.next.state, "failure": step.next.failure }),
            ));
            match self.commit(change).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Refused(Guard::Below { .. })) => return self.quota_refused(&fresh).await,
                Err(CommitError::Refused(_)) => {}
                Err(CommitError::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// A start that waited for a stop finds no room any more: the session goes on sleeping and says why.
    async fn quota_refused(&self, session: &Session) -> PortResult<()> {
        let mut next = session.clone();
        next.goal = Goal::Sleep;
        next.failure = Some(failure(
            "quota_exceeded",
            "The workspace runs as many sessions as its plan allows.",
            "Stop one with `flare session stop`, then start this one.",
        ));
        next.revision += 1;
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
        change.events.push(super::session::state_event(&next));
        change.puts.push(burstflare_ports::store::Put::Session(next));
        match self.commit(change).await {
            Ok(()) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Failed(error)) => Err(error),
        }
    }

    pub(super) async fn session_plan(&self, session: &Session) -> PortResult<plan::Plan> {
        let workspace = self.store().workspace(session.workspace).await?;
        Ok(plan::by_name(workspace.as_ref().map_or("", |found| &found.plan)))
    }

    async fn bring_up(&self, session: &Session) -> PortResult<Event> {
        match self.try_bring_up(session).await {
            Ok(()) => Ok(Event::Started),
            // Causes that pass are tried again until the deadline; the host backs off.
            Err(error) if error.retry() == Retry::Later && !self.is_late(session) => Err(error),
            Err(error) => {
                tracing::warn!(session = %session.id, ?error, "session start failed");
                // Not recorded as failed before it is certain that no machine is left behind.
                self.ports().runtime.stop(machine_of(session), session.epoch, Duration::ZERO).await?;
                Ok(Event::StartFailed(start_failure(&error)))
            }
        }
    }

    async fn try_bring_up(&self, session: &Session) -> PortResult<()> {
        let target = self.target(session).map_err(into_port)?;
        let version = self.store().version(session.workspace, session.version).await?;
        let Some((Some(spec), layer)) = version.map(|version| (version.spec, version.layer)) else {
            return Err(PortError::new(ErrorKind::NotFound, "session.start", "its version is gone"));
        };
        let runtime = &self.ports().runtime;
        let started = runtime.start(self.machine_spec(session, &target, &spec, layer)?).await?;
        if started.disk == DiskState::Fresh {
            self.name_disk(session).await?;
            let sealed = runtime.seal(target.machine, session.epoch);
            if let Some(snapshot) = session.restore.or(session.snapshot) {
                self.agent_ready(&target, BOOT).await?;
                self.restore(session, &target, snapshot).await?;
                sealed.await?;
            } else {
                // Nothing is to be put on it, so it is whole as it is: that is written down while the agent begins.
                try_join(self.agent_ready(&target, BOOT), sealed).await?;
            }
        } else {
            self.agent_ready(&target, BOOT).await?;
        }
        self.deliver_secrets(session, &target).await?;
        if spec.on_start.is_some() {
            self.agent_on_start(&target).await?;
        }
        Ok(())
    }

    /// Names a disk that the runtime had to begin although another one was to be kept. Before it is sealed: a name never
    /// stands for two disks, since files that look untouched are not read again on the same one.
    async fn name_disk(&self, session: &Session) -> PortResult<()> {
        if session.disk == session.epoch {
            return Ok(());
        }
        self.commit_decided(|| async move {
            let fresh = self.store().session(session.workspace, session.id).await?;
            let Some(fresh) = fresh.filter(|fresh| fresh.epoch == session.epoch) else {
                return Ok((None, ()));
            };
            let mut change = ChangeSet::new(Family::Workspace(fresh.workspace));
            change.guards.push(Guard::Revision(Key::Session(fresh.id), fresh.revision));
            change.puts.push(burstflare_ports::store::Put::Session(Session {
                disk: fresh.epoch,
                revision: fresh.revision + 1,
                ..fresh
            }));
            Ok((Some(change), ()))
        })
        .await
        .map_err(into_port)
    }

    fn machine_spec(
        &self,
        session: &Session,
        target: &AgentTarget,
        spec: &VersionSpec,
        layer: Option<LayerRef>,
    ) -> PortResult<MachineSpec> {
        let seed = self
            .unseal(session.workspace, &seed_place(session.id), &session.keys.ssh_host_seed)
            .map_err(into_port)?;
        let disk = if session.restore.is_some() { DiskPlan::Fresh } else { DiskPlan::Keep };
        Ok(MachineSpec {
            machine: target.machine,
            epoch: session.epoch,
            hostname: session.name.as_str().to_owned(),
            base: spec.base.clone(),
            layer,
            disk,
            limits: spec.limits,
            boot: boot(target, STANDARD.encode(seed.expose()), session.name.as_str(), spec),
        })
    }

    async fn give_up(&self, session: &Session) -> PortResult<Event> {
        self.ports().runtime.stop(machine_of(session), session.epoch, Duration::ZERO).await?;
        Ok(Event::StartFailed(failure(
            "start_timeout",
            "The machine did not answer in time.",
            "Try again with `flare session start`; `flare doctor` looks for causes.",
        )))
    }

    async fn take_down(&self, session: &Session) -> PortResult<Event> {
        let runtime = &self.ports().runtime;
        let status = runtime.inspect(machine_of(session)).await?;
        let kept = keeps_disk(status.as_ref());
        let mut snapshot = None;
        let mut problem = None;
        if status.is_some_and(|status| status.alive && status.epoch == session.epoch) {
            let target = self.target(session).map_err(into_port)?;
            match self.snapshot_and_end(session, &target).await {
                Ok(id) => snapshot = Some(id),
                Err(error) if error.retry() == Retry::Later && self.has_time(session) => return Err(error),
                // A snapshot that cannot be taken must not keep the session from sleeping.
                Err(error) => {
                    tracing::warn!(session = %session.id, ?error, "stopping without a snapshot");
                    problem = Some(failure(
                        "snapshot_failed",
                        &format!("It sleeps without a new snapshot: {error}."),
                        if kept {
                            "Its files are on its disk. Start and stop it again to take one."
                        } else {
                            LOST
                        },
                    ));
                }
            }
        }
        runtime.stop(machine_of(session), session.epoch, GRACE).await?;
        Ok(Event::Stopped { snapshot, failure: problem })
    }

    async fn snapshot_and_end(&self, session: &Session, target: &AgentTarget) -> PortResult<Id<Snapshot>> {
        let ready = self.agent_ready(target, Duration::from_secs(2)).await?;
        self.agent_quiesce(target, GRACE).await?;
        let plan = self.session_plan(session).await?;
        let kind = if session.restore.is_some() { SnapshotKind::PreRestore } else { SnapshotKind::Auto };
        let taken = self.take_snapshot(session, target, &ready, (kind, Mode::Quiet), &plan).await?;
        let snapshot = taken.ok_or_else(|| {
            PortError::new(ErrorKind::Internal, "session.stop", "its snapshot was not kept")
        })?;
        if let Err(error) = self.agent_shutdown(target, GRACE).await {
            tracing::debug!(session = %session.id, %error, "the agent did not confirm its end");
        }
        Ok(snapshot)
    }

    async fn kill(&self, session: &Session) -> PortResult<Event> {
        let runtime = &self.ports().runtime;
        let machine = machine_of(session);
        // Who forced it knows, and is not kept waiting for another answer.
        let kept = session.force || keeps_disk(runtime.inspect(machine).await?.as_ref());
        runtime.stop(machine, session.epoch, Duration::ZERO).await?;
        let failure = (!session.force).then(|| {
            failure(
                "stop_timeout",
                "The stop took too long and was forced; there is no new snapshot.",
                if kept { "Its files are on its disk." } else { LOST },
            )
        });
        Ok(Event::Stopped { snapshot: None, failure })
    }

    async fn watch(&self, session: &Session) -> PortResult<Watched> {
        let status = self.ports().runtime.inspect(machine_of(session)).await?;
        if !status.as_ref().is_some_and(|status| status.alive && status.epoch == session.epoch) {
            return Ok(Watched::Happened(Event::MachineLost(failure(
                "machine_lost",
                "Its machine ended by itself.",
                if keeps_disk(status.as_ref()) { "Its files are on its disk: start it again." } else { LOST },
            ))));
        }
        Ok(match self.look_for_idleness(session).await? {
            IdleLook::Sleep { since } => Watched::Happened(Event::Idle { since }),
            IdleLook::Awake(until) => Watched::Until(until.min(self.now().after(WATCH))),
        })
    }

    /// Removes machine, disk and records. The blobs go by the outbox of the same commit.
    async fn remove(&self, session: &Session) -> PortResult<()> {
        self.ports().runtime.destroy(machine_of(session), session.epoch).await?;
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
        let now = self.now();
        let mut after = None;
        loop {
            let page = self.store().snapshots(session.workspace, session.id, after, 200).await?;
            after = page.items.last().map(|snapshot| snapshot.id);
            for snapshot in page.items {
                change.deletes.push(Key::Snapshot(snapshot.id));
                // What an attempt was about to store may still come.
                let late = snapshot.state == SnapshotState::Pending;
                let at = if late { now.after(TAKE_DEADLINE) } else { now };
                change.outbox.push((Effect::DropSnapshot { blob: snapshot.blob }, at));
            }
            if !page.more {
                break;
            }
        }
        change.outbox.push((Effect::SweepPacks { lineage: session.lineage }, now));
        change.deletes.push(Key::Session(session.id));
        change.bumps.push(Bump { counter: Counter::Sessions, by: -1 });
        change.events.push(Notice {
            kind: "session.deleted".to_owned(),
            subject: session.id.to_string(),
            data: json!({ "name": session.name }),
            at: now,
        });
        change.audit.push(self.system_audit(
            session.workspace,
            "session.deleted",
            session.id,
            json!({ "name": session.name }),
        ));
        match self.commit(change).await {
            Ok(()) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Failed(error)) => Err(error),
        }
    }

    /// Whom to call in the session's present life.
    pub(super) fn target(&self, session: &Session) -> Result<AgentTarget> {
        let place = key_place(session.id, session.epoch);
        let key = self.unseal(session.workspace, &place, &session.keys.agent)?;
        Ok(AgentTarget {
            machine: machine_of(session),
            epoch: session.epoch,
            key: Secret::new(String::from_utf8_lossy(key.expose()).into_owned()),
        })
    }

    fn is_late(&self, session: &Session) -> bool {
        session.deadline.is_some_and(|deadline| deadline <= self.now())
    }

    /// Whether a stop still has half of its time.
    fn has_time(&self, session: &Session) -> bool {
        session.deadline.is_some_and(|deadline| deadline.before(rules::STOP_DEADLINE / 2) > self.now())
    }
}

/// What a machine leaves behind whose disk ends with it.
const LOST: &str = "Start it again: it has the files of its last snapshot; what came after that is lost.";

/// Whether a machine's disk is there without it. Some runtimes keep none.
fn keeps_disk(status: Option<&MachineStatus>) -> bool {
    status.is_some_and(|status| status.disk_whole)
}

/// Tells whoever listens that a session sleeps, and what put it to sleep.
fn slept(session: &Session) -> Notice {
    Notice {
        kind: "session.slept".to_owned(),
        subject: session.id.to_string(),
        data: json!({ "name": session.name, "reason": session.stopped_by }),
        at: session.changed_at,
    }
}

/// Tells whoever listens that a session keeps the files it has, although a snapshot's were asked for.
fn not_restored(session: &Session, snapshot: Id<Snapshot>, failure: &Failure) -> Notice {
    Notice {
        kind: "snapshot.not_restored".to_owned(),
        subject: snapshot.to_string(),
        data: json!({ "session": session.id, "failure": failure }),
        at: session.changed_at,
    }
}

pub(super) fn machine_of(session: &Session) -> MachineKey {
    MachineKey { workspace: session.workspace, owner: MachineOwner::Session(session.id) }
}

fn start_failure(error: &PortError) -> Failure {
    let (code, hint) = match error.kind() {
        ErrorKind::Unsupported => ("no_machine_runtime", "`flare doctor` says what is missing."),
        ErrorKind::NotFound if error.operation() == IMAGE => {
            ("image_not_found", "Bring the image to the server's engine, then start it again.")
        }
        ErrorKind::Full => ("no_space", "Make room on the server's disk, then start it again."),
        ErrorKind::Corrupt => (rules::SNAPSHOT_LOST, "Its disk is kept. Restore an older snapshot."),
        ErrorKind::Timeout | ErrorKind::Unavailable => {
            ("start_timeout", "Try again with `flare session start`; `flare doctor` looks for causes.")
        }
        _ => ("start_failed", "Try again with `flare session start`; `flare doctor` looks for causes."),
    };
    failure(code, &format!("The machine could not be started: {error}."), hint)
}
