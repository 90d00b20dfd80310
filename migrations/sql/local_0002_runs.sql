-- The workflow journal of one machine: runs, and the steps they have behind them.
CREATE TABLE runs (
    name TEXT NOT NULL PRIMARY KEY,
    run TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_unfinished ON runs (created_at) WHERE finished_at IS NULL;

CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE run_steps (
    run TEXT NOT NULL REFERENCES runs (name) ON DELETE CASCADE,
    step TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;
