//! Reconcile: makes good what a crash, a lost hint or a missed deadline left behind, and says what it did.

use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortResult};
use burstflare_ports::machine::{MachineOwner, MachineStatus};
use burstflare_ports::record::{BuildState, Effect, Session, SessionState, StopCause};
use burstflare_ports::store::PAGE_LIMIT;
use burstflare_ports::workflow::Run;

use super::ControlPlane;
use crate::domain::build::Event;
use crate::domain::session::{self as rules, Work};

/// Items looked at in one page.
const PAGE: usize = 100;
/// A waiting state that outlives its deadline by this much is stuck.
const STUCK: Duration = Duration::from_secs(120);
/// A queued build that nobody took for so long past its deadline gives its attempt up.
const HOPELESS: Duration = Duration::from_secs(86_400);
/// Expired secrets are kept so long, so that their reuse is still told from garbage.
const KEEP_EXPIRED: Duration = Duration::from_secs(7 * 86_400);

/// What reconcile found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Outbox effects delivered.
    pub delivered: u64,
    /// Sessions woken.
    pub woken: u64,
    /// Builds asked for again or moved on.
    pub builds: u64,
    /// Machines without a record, ended.
    pub strays: u64,
    /// Expired secrets removed.
    pub swept: u64,
    /// Snapshots whose time was over, seen to.
    pub snapshots: u64,
    /// Packs that nothing needed, removed.
    pub packs: u64,
    /// Packs that nothing named and nobody was told to sweep, condemned.
    pub condemned: u64,
    /// Blobs that no record named, removed.
    pub leftovers: u64,
    /// Effects that still wait.
    pub backlog: u64,
    /// What is past its deadline all the same.
    pub stuck: Vec<StuckItem>,
}

/// Something past its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckItem {
    /// Its id.
    pub id: String,
    /// The state it is in.
    pub state: String,
    /// Since when.
    pub since: burstflare_ports::time::Timestamp,
}

/// What of a machine nobody wants.
enum Stray {
    No,
    /// Its processes.
    Machine,
    /// Its disk, too.
    Everything,
}

impl ControlPlane {
    /// Looks at everything that is on its way somewhere. Safe to run at any time, also twice at once.
    ///
    /// # Errors
    /// When a port cannot answer; what was done until then stays done.
    pub async fn reconcile(&self) -> PortResult<Report> {
        let mut report = Report { delivered: self.deliver(None).await?, ..Report::default() };
        self.wake_sessions(|_| true, &mut report).await?;
        self.reconcile_builds(&mut report).await?;
        self.reconcile_machines(&mut report).await?;
        report.swept = self.store().sweep_expired(self.now().before(KEEP_EXPIRED), PAGE_LIMIT).await?;
        report.snapshots = self.reconcile_snapshots().await?;
        self.wrap_anew().await?;
        report.packs = self.sweep_condemned().await?;
        self.walk_leftovers(&mut report).await?;
        report.backlog = self.store().backlog().await?;
        report.stuck = self.stuck().await?;
        Ok(report)
    }

    /// The part of [`ControlPlane::reconcile`] for what is in flight and late: effects, sessions on their way into another
    /// state, builds. It costs a few reads, however many sessions rest or run, so that it may be asked for often.
    ///
    /// # Errors
    /// As [`ControlPlane::reconcile`].
    pub async fn reconcile_in_flight(&self) -> PortResult<Report> {
        let mut report = Report { delivered: self.deliver(None).await?, ..Report::default() };
        self.wake_sessions(|session| rules::work(session, self.now()) != Work::Watch, &mut report).await?;
        self.reconcile_builds(&mut report).await?;
        Ok(report)
    }

    /// What is stuck, without changing anything: for doctor.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn stuck(&self) -> PortResult<Vec<StuckItem>> {
        let limit = self.now().before(STUCK);
        let mut stuck = Vec::new();
        let mut after = None;
        loop {
            let page = self.store().restless_sessions(after, PAGE).await?;
            after = page.items.last().map(|session| session.id);
            stuck.extend(page.items.iter().filter_map(|session| {
                let since = session.deadline.filter(|deadline| *deadline < limit)?;
                let state = format!("{:?}", session.state).to_lowercase();
                Some(StuckItem { id: session.id.to_string(), state, since })
            }));
            if !page.more {
                break;
            }
        }
        let overdue = self.store().overdue_builds(limit, None, PAGE).await?;
        stuck.extend(overdue.items.iter().filter_map(|build| {
            let state = format!("{:?}", build.state).to_lowercase();
            Some(StuckItem { id: build.id.to_string(), state, since: build.deadline? })
        }));
        Ok(stuck)
    }

    async fn wake_sessions(
        &self,
        which: impl Fn(&Session) -> bool + Send + Sync,
        report: &mut Report,
    ) -> PortResult<()> {
        let mut after = None;
        loop {
            let page = self.store().restless_sessions(after, PAGE).await?;
            after = page.items.last().map(|session| session.id);
            for session in page.items.iter().filter(|session| which(session)) {
                self.ports().actors.wake(session.workspace, session.id).await?;
                report.woken += 1;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn reconcile_builds(&self, report: &mut Report) -> PortResult<()> {
        let now = self.now();
        let mut after = None;
        loop {
            let page = self.store().overdue_builds(now, after, PAGE).await?;
            after = page.items.last().map(|build| build.id);
            for build in &page.items {
                report.builds += 1;
                let run = Run { workspace: build.workspace, build: build.id, attempt: build.attempt };
                let hopeless = build.deadline.is_some_and(|deadline| deadline.after(HOPELESS) <= now);
                if build.state == BuildState::Queued && !hopeless {
                    self.ports().workflows.start(run).await?;
                    continue;
                }
                let lost = super::failure(
                    "lease_expired",
                    "The worker that ran the build did not come back in time.",
                    "It is tried again by itself.",
                );
                self.fail_build(build.workspace, build.id, build.attempt, &Event::Lost(lost)).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Ends machines that no record wants: of sessions and builds that are gone or over, and of sessions that have none.
    async fn reconcile_machines(&self, report: &mut Report) -> PortResult<()> {
        let mut after = None;
        loop {
            let page = match self.ports().runtime.list(after, PAGE).await {
                // A deployment without machines has none to end.
                Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
                page => page?,
            };
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.machine.owner);
            for status in &page {
                let runtime = &self.ports().runtime;
                let ended = match self.stray(status).await? {
                    Stray::No => continue,
                    Stray::Machine => {
                        runtime.stop(status.machine, status.epoch, Duration::ZERO).await.map(drop)
                    }
                    Stray::Everything => runtime.destroy(status.machine, status.epoch).await,
                };
                match ended {
                    Ok(()) => report.strays += 1,
                    // A later life began meanwhile; that one is wanted.
                    Err(error) if error.kind() == ErrorKind::Stale => {}
                    // One machine that resists must not keep the others running.
                    Err(error) => tracing::warn!(machine = %status.machine.owner, ?error, "stray left"),
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn stray(&self, status: &MachineStatus) -> PortResult<Stray> {
        let workspace = status.machine.workspace;
        match status.machine.owner {
            // The disk of a session that is there is its files: only a machine can be too much.
            MachineOwner::Session(id) => Ok(match self.store().session(workspace, id).await? {
                None => Stray::Everything,
                Some(found) if status.alive && !rules::has_machine(found.state) => Stray::Machine,
                Some(_) => Stray::No,
            }),
            MachineOwner::Build(id) => {
                let destroys = Effect::DestroyMachine { owner: id.to_string(), epoch: status.epoch };
                if self.store().waiting(workspace, &destroys).await? {
                    return Ok(Stray::No);
                }
                let wanted = self.store().build(workspace, id).await?.is_some_and(|build| {
                    build.epoch == status.epoch && crate::domain::build::is_active(build.state)
                });
                Ok(if wanted { Stray::No } else { Stray::Everything })
            }
        }
    }

    /// Puts every session to sleep: for an orderly end of a development server. Answers how many were asked to.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn sleep_all(&self) -> PortResult<u64> {
        let mut asked = 0;
        let mut after = None;
        loop {
            let page = self.store().restless_sessions(after, PAGE).await?;
            after = page.items.last().map(|session| session.id);
            for session in page.items {
                if matches!(session.state, SessionState::Running | SessionState::Starting) {
                    self.sleep_one(&session).await?;
                    asked += 1;
                }
            }
            if !page.more {
                return Ok(asked);
            }
        }
    }

    /// How many sessions still have a machine: for the end of a development server.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn awake(&self) -> PortResult<usize> {
        let page = self.store().restless_sessions(None, PAGE_LIMIT).await?;
        Ok(page.items.iter().filter(|found| rules::has_machine(found.state)).count())
    }

    async fn sleep_one(&self, session: &Session) -> PortResult<()> {
        self.commit_decided(|| async move {
            let Some(record) = self.store().session(session.workspace, session.id).await? else {
                return Ok((None, ()));
            };
            let Ok(mut step) = self.step(&record, &rules::Event::Stop) else {
                return Ok((None, ()));
            };
            if !step.changed {
                return Ok((None, ()));
            }
            step.next.stopped_by = Some(StopCause::Server);
            let mut change = self.session_change(&record, &step, 0);
            change.audit.push(self.system_audit(
                record.workspace,
                "session.stop",
                record.id,
                serde_json::json!({ "reason": "the server ends" }),
            ));
            Ok((Some(change), ()))
        })
        .await
        .map_err(super::into_port)
    }
}
