-- Directory: what proves that somebody is a user. Secrets are here as hashes only. Tokens and grants of a sign-in name its user
-- and workspace again, for the reader: the reference that is checked is the one to the sign-in.
CREATE TABLE sign_ins (
    id TEXT NOT NULL PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (id),
    workspace TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revision INTEGER NOT NULL CONSTRAINT sign_ins_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

-- Below, indexes called `.._of_..` that no question names are for looking after a reference when its target goes.
CREATE INDEX sign_ins_of_user ON sign_ins (user);

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    hash TEXT NOT NULL CONSTRAINT tokens_hash UNIQUE,
    sign_in TEXT NOT NULL REFERENCES sign_ins (id),
    user TEXT NOT NULL,
    workspace TEXT NOT NULL,
    name TEXT,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revision INTEGER NOT NULL CONSTRAINT tokens_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_of_user ON tokens (user, workspace, id) WHERE kind = 'personal' AND revoked_at IS NULL;

CREATE INDEX tokens_of_sign_in ON tokens (sign_in);

CREATE INDEX tokens_expiry ON tokens (expires_at);

CREATE TABLE grants (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    hash TEXT NOT NULL CONSTRAINT grants_hash UNIQUE,
    user TEXT,
    sign_in TEXT REFERENCES sign_ins (id),
    workspace TEXT,
    role TEXT CONSTRAINT grants_role CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    spent_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_invites ON grants (workspace, id) WHERE kind = 'invite' AND spent_at IS NULL;

CREATE INDEX grants_of_sign_in ON grants (sign_in) WHERE sign_in IS NOT NULL;

CREATE INDEX grants_expiry ON grants (expires_at);
