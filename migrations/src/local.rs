//! The statements of one machine's own tables: its job queue and its workflow journal.

/// Keeps a job: its text, when it is due.
pub const JOB_ENQUEUE: &str = "INSERT INTO jobs (job, due_at) VALUES (?, ?)";
/// Takes the job that is due longest: end of the lease, now. Answers id, text, deliveries with this one.
pub const JOB_CLAIM: &str = "UPDATE jobs SET deliveries = deliveries + 1, leased = 1, due_at = ? WHERE id = \
    (SELECT id FROM jobs WHERE due_at <= ? ORDER BY due_at, id LIMIT 1) RETURNING id, job, deliveries";
/// Holds a lease longer: its new end, the id.
pub const JOB_EXTEND: &str = "UPDATE jobs SET due_at = ? WHERE id = ? AND leased = 1";
/// Forgets a job that is done.
pub const JOB_DONE: &str = "DELETE FROM jobs WHERE id = ?";
/// Gives a job back: when it is due again, why, the id.
pub const JOB_RETRY: &str = "UPDATE jobs SET leased = 0, due_at = ?, error = ? WHERE id = ?";
/// Sets a job aside: the last error, now, the id. [`JOB_DONE`] follows in the same batch.
pub const JOB_BURY: &str = "INSERT OR IGNORE INTO dead_jobs (id, job, deliveries, error, died_at) \
    SELECT id, job, deliveries, ?, ? FROM jobs WHERE id = ?";
/// Ends the leases of a process that is gone: now.
pub const JOB_RELEASE_ALL: &str = "UPDATE jobs SET leased = 0, due_at = ? WHERE leased = 1";
/// When the next job is due.
pub const JOB_NEXT: &str = "SELECT due_at FROM jobs ORDER BY due_at, id LIMIT 1";
/// How many jobs wait or run, and how many were set aside.
pub const JOB_COUNTS: &str = "SELECT (SELECT COUNT(*) FROM jobs), (SELECT COUNT(*) FROM dead_jobs)";

/// Records a run: name, text, now. One that exists is left as it is.
pub const RUN_START: &str = "INSERT OR IGNORE INTO runs (name, run, created_at) VALUES (?, ?, ?)";
/// Runs that are not over, oldest first.
pub const RUNS_UNFINISHED: &str = "SELECT run FROM runs WHERE finished_at IS NULL ORDER BY created_at";
/// The steps that a run has behind it.
pub const RUN_STEPS: &str = "SELECT step FROM run_steps WHERE run = ?";
/// Remembers a step: run, step, now.
pub const RUN_STEP_DONE: &str = "INSERT OR IGNORE INTO run_steps (run, step, finished_at) VALUES (?, ?, ?)";
/// Ends a run: now, name.
pub const RUN_FINISH: &str = "UPDATE runs SET finished_at = ? WHERE name = ?";
/// Forgets runs that ended before a moment.
pub const RUNS_SWEEP: &str = "DELETE FROM runs WHERE finished_at IS NOT NULL AND finished_at < ?";

pub(crate) const ALL: &[&[&str]] = &[&[
    JOB_ENQUEUE,
    JOB_CLAIM,
    JOB_EXTEND,
    JOB_DONE,
    JOB_RETRY,
    JOB_BURY,
    JOB_RELEASE_ALL,
    JOB_NEXT,
    JOB_COUNTS,
    RUN_START,
    RUNS_UNFINISHED,
    RUN_STEPS,
    RUN_STEP_DONE,
    RUN_FINISH,
    RUNS_SWEEP,
]];
