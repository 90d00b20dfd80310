-- Workspace data: secrets, and the key that a workspace's are sealed with.
CREATE TABLE secret_keys (
    workspace TEXT NOT NULL,
    sealed TEXT NOT NULL,
    master TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT secret_keys_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace)
) STRICT, WITHOUT ROWID;

CREATE INDEX secret_keys_master ON secret_keys (master);

CREATE TABLE secrets (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT secrets_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, id),
    CONSTRAINT secrets_name UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;
