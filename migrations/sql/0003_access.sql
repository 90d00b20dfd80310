-- Directory: what proves that somebody is a user. Secrets are here as hashes only.
CREATE TABLE sign_ins (
    id TEXT NOT NULL PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (id),
    workspace TEXT NOT NULL REFERENCES workspaces (id),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revision INTEGER NOT NULL CONSTRAINT sign_ins_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    hash TEXT NOT NULL CONSTRAINT tokens_hash UNIQUE,
    sign_in TEXT NOT NULL REFERENCES sign_ins (id),
    user TEXT NOT NULL REFERENCES users (id),
    workspace TEXT NOT NULL REFERENCES workspaces (id),
    name TEXT,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revision INTEGER NOT NULL CONSTRAINT tokens_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_of_user ON tokens (user, workspace, id) WHERE kind = 'personal' AND revoked_at IS NULL;

CREATE INDEX tokens_expiry ON tokens (expires_at);

CREATE TABLE grants (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    hash TEXT NOT NULL CONSTRAINT grants_hash UNIQUE,
    user TEXT REFERENCES users (id),
    sign_in TEXT REFERENCES sign_ins (id),
    workspace TEXT REFERENCES workspaces (id),
    role TEXT CONSTRAINT grants_role CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    spent_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_invites ON grants (workspace, id) WHERE kind = 'invite' AND spent_at IS NULL;

CREATE INDEX grants_expiry ON grants (expires_at);
