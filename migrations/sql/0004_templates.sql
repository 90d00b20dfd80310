-- Workspace data: templates and their versions. Every key begins with the workspace.
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
