-- Workspace data: sessions and the tickets into them.
CREATE TABLE sessions (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    template TEXT NOT NULL,
    release TEXT NOT NULL,
    version TEXT NOT NULL,
    owner TEXT NOT NULL,
    sharing TEXT NOT NULL CONSTRAINT sessions_sharing CHECK (sharing IN ('private', 'workspace')),
    state TEXT NOT NULL
        CONSTRAINT sessions_state
        CHECK (state IN ('created', 'starting', 'running', 'stopping', 'sleeping', 'failed', 'deleting')),
    goal TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    keys TEXT NOT NULL,
    ssh_host_key TEXT NOT NULL,
    force INTEGER NOT NULL CONSTRAINT sessions_force CHECK (force IN (0, 1)),
    snapshot TEXT,
    restore TEXT,
    deadline INTEGER,
    failure TEXT,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT sessions_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, id),
    CONSTRAINT sessions_name UNIQUE (workspace, name),
    FOREIGN KEY (workspace, template) REFERENCES templates (workspace, id),
    FOREIGN KEY (workspace, release) REFERENCES releases (workspace, id)
) STRICT, WITHOUT ROWID;

-- Only what has a machine or a way to go.
CREATE INDEX sessions_restless ON sessions (id)
    WHERE (state NOT IN ('created', 'sleeping', 'failed') OR goal <> 'sleep');

CREATE TABLE tickets (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    session TEXT NOT NULL,
    user TEXT NOT NULL,
    purpose TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    ssh_key TEXT,
    hash TEXT NOT NULL CONSTRAINT tickets_hash UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    spent_at INTEGER,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, session) REFERENCES sessions (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX tickets_expiry ON tickets (expires_at);

-- For the cascade.
CREATE INDEX tickets_of_session ON tickets (workspace, session);
