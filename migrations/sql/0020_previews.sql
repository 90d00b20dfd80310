-- Workspace data: who may look at a session's ports. What the manifest says stands with the version.
CREATE TABLE port_settings (
    workspace TEXT NOT NULL,
    session TEXT NOT NULL,
    port INTEGER NOT NULL CONSTRAINT port_settings_port CHECK (port BETWEEN 1 AND 65535),
    visibility TEXT NOT NULL
        CONSTRAINT port_settings_visibility CHECK (visibility IN ('private', 'workspace', 'public')),
    expires_at INTEGER,
    changed_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT port_settings_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, session, port),
    FOREIGN KEY (workspace, session) REFERENCES sessions (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- A preview's host name says the session and nothing else.
CREATE UNIQUE INDEX sessions_by_id ON sessions (id);

-- Tickets to a port.
ALTER TABLE tickets ADD COLUMN port INTEGER;
