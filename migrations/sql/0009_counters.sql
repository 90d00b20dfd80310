-- Workspace data: numbers that quotas bound. `subject` is the id it counts below, or empty.
CREATE TABLE counters (
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    value INTEGER NOT NULL CONSTRAINT counters_value CHECK (value >= 0),
    PRIMARY KEY (workspace, name, subject)
) STRICT, WITHOUT ROWID;
