-- Directory: who there is, and where they belong.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL CONSTRAINT users_email UNIQUE,
    email_verified_at INTEGER,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT users_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE workspaces (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT workspaces_name UNIQUE,
    plan TEXT NOT NULL,
    personal_of TEXT,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT workspaces_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE memberships (
    workspace TEXT NOT NULL REFERENCES workspaces (id),
    user TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL CONSTRAINT memberships_role CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT memberships_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX memberships_of_user ON memberships (user, workspace);
