-- The queue of one machine. `due_at` is also the end of the lease while a worker has the job.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0 CONSTRAINT jobs_leased CHECK (leased IN (0, 1)),
    due_at INTEGER NOT NULL,
    error TEXT
) STRICT;

CREATE INDEX jobs_due ON jobs (due_at, id);

CREATE TABLE dead_jobs (
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    error TEXT,
    died_at INTEGER NOT NULL
) STRICT;
