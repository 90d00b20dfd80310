-- A ticket names the token it was asked for with, and that token's sign-in. Tickets live for a minute: those of before go.
DROP TABLE tickets;

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
    spent_at INTEGER,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, session) REFERENCES sessions (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX tickets_expiry ON tickets (expires_at);

-- For the cascade.
CREATE INDEX tickets_of_session ON tickets (workspace, session);
