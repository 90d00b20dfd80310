-- What has to happen outside the store, one outbox for each family.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL,
    effect TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_due ON outbox (due_at, seq);

CREATE INDEX outbox_of_workspace ON outbox (workspace, due_at, seq);

CREATE TABLE directory_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    effect TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
) STRICT;

CREATE INDEX directory_outbox_due ON directory_outbox (due_at, seq);
