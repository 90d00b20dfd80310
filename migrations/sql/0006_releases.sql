-- Workspace data: the history of what was current. Rows are only ever inserted.
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
