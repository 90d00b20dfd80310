//! What happens in a round, and what has to hold behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use burstflare_core::domain::leftover;
use burstflare_core::domain::session::has_machine;
use burstflare_core::domain::snapshot::{PACK_GRACE, TAKE_DEADLINE};
use burstflare_core::service::Fork;
use burstflare_ports::drive::SessionActor as _;
use burstflare_ports::record::{
    PackState, Session, SessionState, Sharing, Snapshot, SnapshotKind, SnapshotState,
};
use burstflare_ports::store::{Counter, PAGE_LIMIT};

use super::world::World;
use crate::packed;
use crate::simulation::executor::step_aside;
use crate::simulation::rng::Rng;
use crate::stored;

/// What each session does in a round.
const ACTIONS: usize = 8;
/// Sessions at most.
const SESSIONS: usize = 7;
/// Sweeps at the same time.
const SWEEPS: usize = 2;
/// Time that passes in a round at most, in seconds: takes are not to run out of theirs.
const PASSES: usize = 400;

/// Everybody acts, two sweeps run beside them, and time passes.
pub(super) async fn run(world: &World, rng: &Rng, sessions: &mut Vec<Session>) {
    // What was condemned before may go now.
    world.pass(PACK_GRACE + Duration::from_secs(1));
    let over = Arc::new(AtomicBool::new(false));
    let sweeps: Vec<_> = (0..SWEEPS)
        .map(|_| {
            let (world, over) = (world.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    sweep(&world).await;
                    step_aside().await;
                }
            })
        })
        .collect();
    let clock = {
        let (world, over, rng) = (world.clone(), Arc::clone(&over), Rng::new(rng.next()));
        tokio::spawn(async move {
            let mut left = PASSES;
            while !over.load(Ordering::Relaxed) && left > 0 {
                let span = rng.below(20).min(left);
                world.pass(Duration::from_secs(span as u64));
                left -= span;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    let actors: Vec<_> = sessions
        .iter()
        .map(|session| {
            let actor = Actor { world: world.clone(), rng: Rng::new(rng.next()), session: session.clone() };
            tokio::spawn(actor.act(sessions.len() < SESSIONS))
        })
        .collect();
    let mut next = Vec::new();
    for actor in actors {
        next.extend(actor.await.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    for task in sweeps {
        task.await.unwrap();
    }
    clock.await.unwrap();
    *sessions = next;
}

/// A reconcile that finds nothing to complain about.
async fn sweep(world: &World) {
    match world.plane.reconcile().await {
        Ok(report) => {
            if report.packs > 0 {
                world.count("packs swept");
            }
        }
        Err(error) => world.accuse(format!("reconcile: {error:?}")),
    }
}

struct Actor {
    world: World,
    rng: Rng,
    session: Session,
}

impl Actor {
    /// Acts some times. Answers which sessions there are of it then.
    async fn act(self, may_fork: bool) -> Vec<Session> {
        let mut there = vec![self.session.clone()];
        let mut forks = usize::from(may_fork);
        for _ in 0..ACTIONS {
            let Some(now) = self.settle().await else { return Vec::new() };
            match self.rng.below(14) {
                0..5 => self.take().await,
                5..7 => self.delete_some(&now).await,
                7..9 if forks > 0 => {
                    let made = self.fork(&now).await;
                    forks -= usize::from(made.is_some());
                    there.extend(made);
                }
                9 | 10 => self.restore(&now).await,
                11 => self.stop().await,
                12 => self.break_off().await,
                13 => self.give_up().await,
                _ => self.write(),
            }
        }
        // A fork may end; what it shares stays with the others.
        if self.session.forked_from.is_some() && self.rng.hits(3_000) {
            let id = self.session.id.to_string();
            if self.world.plane.delete_session(&self.world.caller, &id).await.is_ok() {
                while self.world.fresh(&self.session).await.is_some() {
                    let _ = self.world.plane.tend(self.session.workspace, self.session.id).await;
                    step_aside().await;
                }
                self.world.count("session deleted");
                there.remove(0);
            }
        } else {
            self.settle().await;
            // It is due to be taken when the next round begins, just when what it needs again may go.
            self.write();
        }
        there
    }

    /// It runs and nothing is under way.
    async fn settle(&self) -> Option<Session> {
        let found = self.world.settle(&self.session).await?;
        if found.state == SessionState::Running {
            return Some(found);
        }
        let id = self.session.id.to_string();
        let _ = self.world.plane.start_session(&self.world.caller, &id).await;
        self.world.settle(&self.session).await
    }

    /// Few texts, so that what was deleted comes back and sessions have much in common.
    fn write(&self) {
        for _ in 0..=self.rng.below(4) {
            let path = format!("file-{}", self.rng.below(8));
            let text = format!("text {}", self.rng.below(24));
            let gone = self.rng.hits(2_500);
            self.world.machines.write(&self.session, |files| {
                if gone {
                    files.remove(&path);
                } else {
                    files.insert(path, text);
                }
            });
        }
    }

    async fn ask(&self) -> bool {
        let id = self.session.id.to_string();
        self.world.plane.create_snapshot(&self.world.caller, &id, None).await.is_ok()
    }

    async fn take(&self) {
        self.write();
        if self.ask().await && self.settle().await.is_some() {
            self.world.count("taken");
        }
    }

    /// The machine breaks off in the middle, some times, before it is taken.
    async fn break_off(&self) {
        self.write();
        for _ in 0..=self.rng.below(3) {
            self.world.machines.break_off(&self.session, self.rng.below(8));
            self.ask().await;
            if self.world.plane.tend(self.session.workspace, self.session.id).await.is_err() {
                self.world.count("take broke off");
            }
        }
        self.settle().await;
    }

    /// Whoever takes it is gone in the middle, as in the end of a process.
    async fn give_up(&self) {
        self.write();
        if !self.ask().await {
            return;
        }
        let looks = Duration::from_micros(self.rng.below(4_000) as u64);
        let tend = self.world.plane.tend(self.session.workspace, self.session.id);
        if tokio::time::timeout(looks, tend).await.is_err() {
            self.world.count("take given up");
        }
        self.settle().await;
    }

    async fn some_snapshot(&self, session: &Session) -> Option<Snapshot> {
        let all = stored::snapshots(&*self.world.store, session).await;
        let complete: Vec<_> = all.into_iter().filter(|it| it.state == SnapshotState::Complete).collect();
        self.rng.pick(&complete).cloned()
    }

    async fn delete_some(&self, session: &Session) {
        for _ in 0..3 {
            let Some(snapshot) = self.some_snapshot(session).await else { return };
            let id = snapshot.id.to_string();
            if self.world.plane.delete_snapshot(&self.world.caller, &id).await.is_ok() {
                self.world.count("deleted");
            }
        }
    }

    async fn fork(&self, session: &Session) -> Option<Session> {
        let snapshot = self.some_snapshot(session).await?;
        let name = format!("fork-{}", self.rng.next());
        let wish = Fork {
            name: name.parse().unwrap(),
            snapshot: Some(snapshot.id.to_string()),
            sharing: Sharing::Private,
        };
        let id = self.session.id.to_string();
        let fork = self.world.plane.fork_session(&self.world.caller, &id, wish).await.ok()?;
        let files = self.world.model.lock().unwrap().get(&snapshot.id).cloned().unwrap();
        let first = fork.snapshot.unwrap();
        self.world.model.lock().unwrap().insert(first, files.clone());
        let up = self.world.settle(&fork).await;
        if up.as_ref().is_none_or(|up| up.state != SessionState::Running)
            || self.world.machines.files(&fork) != files
        {
            self.world.accuse(format!("{} has not the files it was forked with: {up:?}", fork.id));
        }
        self.world.count("forked");
        Some(fork)
    }

    async fn restore(&self, session: &Session) {
        let Some(snapshot) = self.some_snapshot(session).await else { return };
        let id = snapshot.id.to_string();
        let discard = self.rng.hits(5_000);
        // It may have been let go for its age or number in this moment.
        if self.world.plane.restore_snapshot(&self.world.caller, &id, discard).await.is_err() {
            return;
        }
        // The stop before it takes what the disk holds; then the files are those of the snapshot.
        let saved = self.world.machines.files(session);
        let up = self.world.settle_after(session, &saved).await;
        let files = self.world.model.lock().unwrap().get(&snapshot.id).cloned();
        let failed = up.as_ref().and_then(|up| up.failure.clone());
        if failed.is_some() || files != Some(self.world.machines.files(session)) {
            self.world.accuse(format!("{} was not restored: {failed:?}", snapshot.id));
        }
        self.world.count("restored");
    }

    async fn stop(&self) {
        let id = self.session.id.to_string();
        let files = self.world.machines.files(&self.session);
        let _ = self.world.plane.stop_session(&self.world.caller, &id).await;
        self.settle().await;
        if self.world.machines.files(&self.session) != files {
            self.world.accuse(format!("{} lost files by sleeping", self.session.id));
        }
        self.world.count("stopped");
    }
}

/// What has to hold whenever nothing is under way.
pub(super) async fn check(world: &World, sessions: &[Session]) {
    let workspace = world.caller.workspace.id;
    let mut running = 0;
    for session in sessions {
        let Some(session) = world.fresh(session).await else {
            world.accuse(format!("{} is gone", session.id));
            continue;
        };
        running += u64::from(has_machine(session.state));
        let snapshots = stored::snapshots(&*world.store, &session).await;
        let manual = snapshots
            .iter()
            .filter(|it| it.kind == SnapshotKind::Manual && it.state != SnapshotState::Failed)
            .count() as u64;
        if !stored::counts(&*world.store, workspace, Counter::Snapshots(session.id), manual).await {
            world.accuse(format!("the counter of {} is not {manual}", session.id));
        }
        for snapshot in &snapshots {
            match snapshot.state {
                SnapshotState::Complete => check_snapshot(world, snapshot).await,
                SnapshotState::Failed => world.count("failed"),
                SnapshotState::Pending => world.accuse(format!("{} is pending", snapshot.id)),
            }
        }
    }
    for (counter, count) in [(Counter::Sessions, sessions.len() as u64), (Counter::Running, running)] {
        if !stored::counts(&*world.store, workspace, counter, count).await {
            world.accuse(format!("{counter:?} is not {count}"));
        }
    }
}

async fn check_snapshot(world: &World, snapshot: &Snapshot) {
    for pack in stored::packs_of(&*world.store, snapshot).await {
        if pack.state != PackState::Live {
            world.accuse(format!("{} names a condemned pack: {pack:?}", snapshot.id));
        }
    }
    let Some(tree) = stored::tree_of(&*world.store, &*world.blobs, snapshot).await else {
        world.accuse(format!("{} cannot be restored", snapshot.id));
        return;
    };
    let wanted = world.model.lock().unwrap().get(&snapshot.id).cloned();
    if wanted.as_ref() != Some(&tree) || packed::summary(&tree).digest != snapshot.digest {
        world.accuse(format!("{} holds {tree:?} instead of {wanted:?}", snapshot.id));
    }
}

/// When everybody has gone home: what nothing names any more goes, and everything else stays.
pub(super) async fn end(world: &World, sessions: &[Session]) {
    // Condemned, removed, and the blobs of attempts that came to nothing.
    for span in [Duration::ZERO, TAKE_DEADLINE, PACK_GRACE, leftover::GRACE, leftover::PERIOD] {
        world.pass(span + Duration::from_secs(1));
        for _ in 0..3 {
            sweep(world).await;
        }
    }
    for session in sessions {
        world.settle(session).await;
    }
    check(world, sessions).await;
    let workspace = world.caller.workspace.id;
    let packs = world.store.all_packs(workspace, None, PAGE_LIMIT).await.unwrap().items;
    for pack in packs {
        if pack.state != PackState::Live {
            world.accuse(format!("{pack:?} is left over"));
        }
    }
    let (kept, left) = stored::unnamed(&*world.store, &*world.blobs, (workspace, sessions)).await;
    if kept > 0 {
        world.count("blobs were looked at");
    }
    for key in left {
        world.accuse(format!("{key} is left over"));
    }
}
