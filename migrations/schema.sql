-- Written by the test of the schema (UPDATE_GOLDEN=1): what all migrations make.

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    origin TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX audit_of_workspace ON audit (workspace, seq);

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

CREATE INDEX builds_unfinished ON builds (id, deadline) WHERE state IN ('queued', 'running');

CREATE TABLE commit_guard (
    guard_0 INTEGER CONSTRAINT guard_0 CHECK (guard_0 = 1),
    guard_1 INTEGER CONSTRAINT guard_1 CHECK (guard_1 = 1),
    guard_2 INTEGER CONSTRAINT guard_2 CHECK (guard_2 = 1),
    guard_3 INTEGER CONSTRAINT guard_3 CHECK (guard_3 = 1),
    guard_4 INTEGER CONSTRAINT guard_4 CHECK (guard_4 = 1),
    guard_5 INTEGER CONSTRAINT guard_5 CHECK (guard_5 = 1),
    guard_6 INTEGER CONSTRAINT guard_6 CHECK (guard_6 = 1),
    guard_7 INTEGER CONSTRAINT guard_7 CHECK (guard_7 = 1),
    guard_8 INTEGER CONSTRAINT guard_8 CHECK (guard_8 = 1),
    guard_9 INTEGER CONSTRAINT guard_9 CHECK (guard_9 = 1),
    guard_10 INTEGER CONSTRAINT guard_10 CHECK (guard_10 = 1),
    guard_11 INTEGER CONSTRAINT guard_11 CHECK (guard_11 = 1),
    guard_12 INTEGER CONSTRAINT guard_12 CHECK (guard_12 = 1),
    guard_13 INTEGER CONSTRAINT guard_13 CHECK (guard_13 = 1),
    guard_14 INTEGER CONSTRAINT guard_14 CHECK (guard_14 = 1),
    guard_15 INTEGER CONSTRAINT guard_15 CHECK (guard_15 = 1)
) STRICT;

CREATE TABLE counters (
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    value INTEGER NOT NULL CONSTRAINT counters_value CHECK (value >= 0),
    PRIMARY KEY (workspace, name, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_jobs (
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    error TEXT,
    died_at INTEGER NOT NULL
) STRICT;

CREATE TABLE directory_audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    origin TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE directory_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    effect TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
) STRICT;

CREATE INDEX directory_outbox_due ON directory_outbox (due_at, seq);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    data TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE INDEX events_of_workspace ON events (workspace, seq);

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

CREATE INDEX grants_expiry ON grants (expires_at);

CREATE INDEX grants_invites ON grants (workspace, id) WHERE kind = 'invite' AND spent_at IS NULL;

CREATE INDEX grants_of_sign_in ON grants (sign_in) WHERE sign_in IS NOT NULL;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0 CONSTRAINT jobs_leased CHECK (leased IN (0, 1)),
    due_at INTEGER NOT NULL,
    error TEXT
) STRICT;

CREATE INDEX jobs_due ON jobs (due_at, id);

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

CREATE TABLE memberships (
    workspace TEXT NOT NULL REFERENCES workspaces (id),
    user TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL CONSTRAINT memberships_role CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT memberships_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX memberships_of_user ON memberships (user, workspace);

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL,
    effect TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_due ON outbox (due_at, seq);

CREATE INDEX outbox_of_workspace ON outbox (workspace, due_at, seq);

CREATE TABLE packs (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    lineage TEXT NOT NULL,
    hash TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    state TEXT NOT NULL CONSTRAINT packs_state CHECK (state IN ('storing', 'live', 'condemned')),
    condemned_at INTEGER,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT packs_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX packs_condemned ON packs (condemned_at, id) WHERE state = 'condemned';

CREATE INDEX packs_of_lineage ON packs (workspace, lineage, id);

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

CREATE TABLE releases (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    template TEXT NOT NULL,
    version TEXT NOT NULL,
    number INTEGER NOT NULL,
    cause TEXT NOT NULL CONSTRAINT releases_cause CHECK (cause IN ('promote', 'rollback')),
    previous TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, id),
    CONSTRAINT releases_number UNIQUE (workspace, template, number),
    FOREIGN KEY (workspace, template) REFERENCES templates (workspace, id),
    FOREIGN KEY (workspace, version) REFERENCES versions (workspace, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX releases_of_template ON releases (workspace, template, id);

CREATE TABLE run_steps (
    run TEXT NOT NULL REFERENCES runs (name) ON DELETE CASCADE,
    step TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    name TEXT NOT NULL PRIMARY KEY,
    run TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

CREATE INDEX runs_unfinished ON runs (created_at) WHERE finished_at IS NULL;

CREATE TABLE schema_migrations (name TEXT NOT NULL PRIMARY KEY, applied_at INTEGER NOT NULL);

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
    revision INTEGER NOT NULL CONSTRAINT sessions_revision CHECK (revision >= 1), lineage TEXT NOT NULL DEFAULT '', forked_from TEXT, disk INTEGER NOT NULL DEFAULT 0, saved_at INTEGER, unsaved INTEGER NOT NULL DEFAULT 0, sleep_after_s INTEGER, stopped_by TEXT
    CONSTRAINT sessions_stopped_by CHECK (stopped_by IN ('person', 'idle', 'server', 'machine')), wanted_at INTEGER,
    PRIMARY KEY (workspace, id),
    CONSTRAINT sessions_name UNIQUE (workspace, name),
    FOREIGN KEY (workspace, template) REFERENCES templates (workspace, id),
    FOREIGN KEY (workspace, release) REFERENCES releases (workspace, id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX sessions_by_id ON sessions (id);

CREATE INDEX sessions_restless ON sessions (id)
    WHERE (state NOT IN ('created', 'sleeping', 'failed') OR goal <> 'sleep');

CREATE TABLE sign_ins (
    id TEXT NOT NULL PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (id),
    workspace TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revision INTEGER NOT NULL CONSTRAINT sign_ins_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

CREATE INDEX sign_ins_of_user ON sign_ins (user);

CREATE TABLE snapshot_packs (
    workspace TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    pack TEXT NOT NULL,
    PRIMARY KEY (workspace, snapshot, pack),
    FOREIGN KEY (workspace, snapshot) REFERENCES snapshots (workspace, id) ON DELETE CASCADE,
    FOREIGN KEY (workspace, pack) REFERENCES packs (workspace, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_of_pack ON snapshot_packs (workspace, pack);

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
    revision INTEGER NOT NULL CONSTRAINT snapshots_revision CHECK (revision >= 1), label TEXT, parent TEXT, packed INTEGER NOT NULL DEFAULT 0, verified_at INTEGER, due_at INTEGER, failure TEXT,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, session) REFERENCES sessions (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_blob ON snapshots (workspace, blob);

CREATE INDEX snapshots_due ON snapshots (due_at, id) WHERE due_at IS NOT NULL;

CREATE INDEX snapshots_label ON snapshots (workspace, label, id) WHERE label IS NOT NULL;

CREATE INDEX snapshots_of_session ON snapshots (workspace, session, id);

CREATE UNIQUE INDEX snapshots_pending ON snapshots (workspace, session) WHERE state = 'pending';

CREATE TABLE templates (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    current_release TEXT,
    archived_at INTEGER,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT templates_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, id),
    CONSTRAINT templates_name UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE tickets (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    session TEXT NOT NULL,
    user TEXT NOT NULL,
    token TEXT NOT NULL,
    sign_in TEXT NOT NULL,
    purpose TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    ssh_key TEXT,
    hash TEXT NOT NULL CONSTRAINT tickets_hash UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    spent_at INTEGER, port INTEGER,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, session) REFERENCES sessions (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX tickets_expiry ON tickets (expires_at);

CREATE INDEX tickets_of_session ON tickets (workspace, session);

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

CREATE INDEX tokens_expiry ON tokens (expires_at);

CREATE INDEX tokens_of_sign_in ON tokens (sign_in);

CREATE INDEX tokens_of_user ON tokens (user, workspace, id) WHERE kind = 'personal' AND revoked_at IS NULL;

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL CONSTRAINT users_email UNIQUE,
    email_verified_at INTEGER,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT users_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    template TEXT NOT NULL,
    label TEXT NOT NULL,
    state TEXT NOT NULL CONSTRAINT versions_state CHECK (state IN ('draft', 'building', 'ready', 'failed')),
    bundle TEXT,
    spec TEXT,
    build TEXT,
    layer TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT versions_revision CHECK (revision >= 1),
    PRIMARY KEY (workspace, id),
    CONSTRAINT versions_label UNIQUE (workspace, template, label),
    FOREIGN KEY (workspace, template) REFERENCES templates (workspace, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX versions_of_template ON versions (workspace, template, id);

CREATE TABLE workspaces (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT workspaces_name UNIQUE,
    plan TEXT NOT NULL,
    personal_of TEXT,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL CONSTRAINT workspaces_revision CHECK (revision >= 1)
) STRICT, WITHOUT ROWID;
