-- Workspace data: snapshots of sessions.
CREATE TABLE snapshots (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    session TEXT NOT NULL,
    kind TEXT NOT NULL CONSTRAINT snapshots_kind CHECK (kind IN ('auto', 'manual', 'pre_restore')),
    state TEXT NOT NULL CONSTRAINT snapshots_state CHECK (state IN ('pending', 'complete', 'failed')),
    format INTEGER NOT NULL,
    blob TEXT NOT NULL,
    digest TEXT NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT snapshots_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, session) REFERENCES sessions (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_of_session ON snapshots (workspace, session, id);
