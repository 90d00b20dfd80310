//! Rules of snapshots: how long each is kept, when the next one is due, when what nothing needs may go.

use std::time::Duration;

use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Pack, PackState, Session, SessionState, Snapshot, SnapshotKind, SnapshotState,
};
use burstflare_ports::time::Timestamp;

/// How long taking a snapshot may last, all attempts together.
pub const TAKE_DEADLINE: Duration = Duration::from_secs(900);
/// A condemned pack stays so long: longer than any snapshot is taken and any machine restores.
pub const PACK_GRACE: Duration = Duration::from_secs(3600);
/// A failed snapshot is shown so long.
pub const KEEP_FAILED: Duration = Duration::from_secs(7 * 86_400);
/// A snapshot that something still needs when its time is over is looked at again after this.
pub const LOOK_AGAIN: Duration = Duration::from_secs(86_400);
/// Packs that a snapshot may name however small they are.
const MANY_PACKS: u64 = 200;
/// Beyond `MANY_PACKS`, packs are at least this large on average, or everything is packed anew.
pub const SMALL_PACK: u64 = 4 << 20;

/// How many snapshots of a kind are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub count: usize,
    /// Each for so long.
    pub age: Duration,
}

/// What is kept of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Taken by stopping and by time.
    pub auto: Keep,
    /// Taken before a restore.
    pub pre_restore: Keep,
    /// Asked for: how long. Their number is a quota.
    pub manual: Duration,
}

impl Retention {
    fn of(&self, kind: SnapshotKind) -> Keep {
        match kind {
            SnapshotKind::Auto => self.auto,
            SnapshotKind::PreRestore => self.pre_restore,
            SnapshotKind::Manual => Keep { count: usize::MAX, age: self.manual },
        }
    }

    /// When the keeping of a snapshot ends that is complete now; never, where it was asked for by name.
    #[must_use]
    pub fn ends(&self, snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
        snapshot.label.is_none().then(|| now.after(self.of(snapshot.kind).age))
    }
}

/// Which snapshots something needs: the one that the session's files go back to, one that is to be restored, and the
/// newest complete one.
#[must_use]
pub fn is_needed(session: &Session, all: &[Snapshot], id: Id<Snapshot>) -> bool {
    let complete = all.iter().filter(|found| found.state == SnapshotState::Complete);
    let newest = complete.map(|found| found.id).max();
    [session.snapshot, session.restore, newest].contains(&Some(id))
}

/// Which of a session's snapshots may go now: complete ones without a label beyond their kind's number or age, and
/// failed ones that were shown for long enough. Nothing pending, and nothing that is needed.
#[must_use]
pub fn to_retire(session: &Session, all: &[Snapshot], keep: &Retention, now: Timestamp) -> Vec<Id<Snapshot>> {
    let mut newest_first: Vec<&Snapshot> = all.iter().collect();
    newest_first.sort_by_key(|found| std::cmp::Reverse(found.id));
    let mut goes = Vec::new();
    for kind in [SnapshotKind::Auto, SnapshotKind::PreRestore, SnapshotKind::Manual] {
        let limit = keep.of(kind);
        let of_kind = newest_first.iter().filter(|found| {
            found.kind == kind && found.state == SnapshotState::Complete && found.label.is_none()
        });
        for (place, found) in of_kind.enumerate() {
            let old = found.due_at.is_some_and(|at| at <= now);
            if place >= limit.count || old {
                goes.push(found.id);
            }
        }
    }
    goes.retain(|id| !is_needed(session, all, *id));
    let failed = newest_first.iter().filter(|found| found.state == SnapshotState::Failed);
    goes.extend(failed.filter(|found| found.due_at.is_none_or(|at| at <= now)).map(|found| found.id));
    goes
}

/// When a running session is to be snapshotted by itself the next time; never where the plan has no period.
#[must_use]
pub fn autosave_at(session: &Session, period: Option<Duration>) -> Option<Timestamp> {
    let period = period?;
    if session.state != SessionState::Running {
        return None;
    }
    Some(session.saved_at.map_or(session.changed_at, |saved| saved.max(session.changed_at)).after(period))
}

/// Whether a snapshot names so many small packs that the next one had better not be taken on top of it.
#[must_use]
pub const fn is_scattered(packs: u64, bytes: u64) -> bool {
    packs > MANY_PACKS + bytes / SMALL_PACK
}

/// Whether a snapshot that is wanted or under way has run out of time.
#[must_use]
pub fn is_overdue(snapshot: &Snapshot, now: Timestamp) -> bool {
    snapshot.state == SnapshotState::Pending && snapshot.due_at.is_none_or(|at| at <= now)
}

/// What the sweep makes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Leave it.
    Leave,
    /// It is condemned.
    Condemn,
    /// It goes, with its blobs.
    Remove,
}

/// Decides over a pack by whether a snapshot names it.
#[must_use]
pub fn sweep(pack: &Pack, named: bool, now: Timestamp) -> Sweep {
    match (pack.state, named) {
        (_, true) => Sweep::Leave,
        (PackState::Condemned, false) => {
            let over = pack.condemned_at.is_some_and(|at| at.after(PACK_GRACE) <= now);
            if over { Sweep::Remove } else { Sweep::Leave }
        }
        (PackState::Storing | PackState::Live, false) => Sweep::Condemn,
    }
}
