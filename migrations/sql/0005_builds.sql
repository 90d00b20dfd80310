-- Workspace data: builds and the index of their logs.
CREATE TABLE builds (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    template TEXT NOT NULL,
    version TEXT NOT NULL,
    state TEXT NOT NULL
        CONSTRAINT builds_state CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    step TEXT,
    steps INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    sealed_key TEXT,
    epoch INTEGER NOT NULL,
    deadline INTEGER,
    failure TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    revision INTEGER NOT NULL CONSTRAINT builds_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, version) REFERENCES versions (workspace, id)
) STRICT, WITHOUT ROWID;

-- Only what waits or runs: small, whatever was built before.
CREATE INDEX builds_unfinished ON builds (id, deadline) WHERE state IN ('queued', 'running');

CREATE TABLE log_chunks (
    workspace TEXT NOT NULL,
    build TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size INTEGER NOT NULL CONSTRAINT log_chunks_size CHECK (size <= 262144),
    blob TEXT NOT NULL,
    PRIMARY KEY (workspace, build, attempt, offset),
    FOREIGN KEY (workspace, build) REFERENCES builds (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
