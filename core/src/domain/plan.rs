//! Plans: what a workspace may have.

use std::time::Duration;

use super::snapshot::{Keep, Retention};

/// The limits of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub name: &'static str,
    /// Templates, archived ones included.
    pub templates: u64,
    /// Versions of one template.
    pub versions: u64,
    /// Builds that wait or run.
    pub builds: u64,
    /// Sessions.
    pub sessions: u64,
    /// Sessions with a machine.
    pub running: u64,
    /// Bytes of one uploaded bundle.
    pub bundle: u64,
    /// Snapshots of one session that people asked for.
    pub snapshots: u64,
    /// What is kept of a session's snapshots.
    pub retention: Retention,
    /// How often a running session is snapshotted by itself, if it is.
    pub autosave: Option<Duration>,
    /// Bytes of one snapshot's archive, or of its packs together.
    pub snapshot: u64,
    /// How long one setup step may take.
    pub step: Duration,
    /// Secrets; at most a page of a list.
    pub secrets: u64,
    /// The longest idle time before a session sleeps; none where it may stay awake for good.
    pub idle: Option<Duration>,
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One machine, its owner's.
pub const LOCAL: Plan = Plan {
    name: "local",
    templates: 10_000,
    versions: 1_000,
    builds: 1_000,
    sessions: 500,
    running: 200,
    bundle: 100 * MIB,
    snapshots: 100,
    retention: Retention {
        auto: Keep { count: 12, age: days(30) },
        pre_restore: Keep { count: 3, age: days(30) },
        manual: days(365),
    },
    autosave: Some(Duration::from_secs(10 * 60)),
    snapshot: 64 * GIB,
    step: Duration::from_secs(3600),
    secrets: 100,
    idle: None,
};

/// A shared deployment's default.
pub const STANDARD: Plan = Plan {
    name: "standard",
    templates: 100,
    versions: 200,
    builds: 10,
    sessions: 50,
    running: 10,
    bundle: 100 * MIB,
    snapshots: 20,
    retention: Retention {
        auto: Keep { count: 6, age: days(14) },
        pre_restore: Keep { count: 2, age: days(7) },
        manual: days(90),
    },
    autosave: Some(Duration::from_secs(10 * 60)),
    snapshot: 16 * GIB,
    step: Duration::from_secs(1800),
    secrets: 100,
    idle: Some(Duration::from_secs(24 * 3600)),
};

/// Small enough for tests to reach every limit.
pub const TINY: Plan = Plan {
    name: "tiny",
    templates: 2,
    versions: 2,
    builds: 1,
    sessions: 2,
    running: 1,
    bundle: MIB,
    snapshots: 2,
    retention: Retention {
        auto: Keep { count: 1, age: days(1) },
        pre_restore: Keep { count: 1, age: days(1) },
        manual: days(7),
    },
    autosave: Some(Duration::from_secs(10 * 60)),
    snapshot: 64 * MIB,
    step: Duration::from_secs(60),
    secrets: 2,
    idle: Some(Duration::from_secs(3600)),
};

/// A plan by name. A name that is no longer known has the limits of [`TINY`]: a mistake must not widen anything.
#[must_use]
pub fn by_name(name: &str) -> Plan {
    [LOCAL, STANDARD].into_iter().find(|plan| plan.name == name).unwrap_or(TINY)
}
