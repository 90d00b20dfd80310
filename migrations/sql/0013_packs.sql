-- Workspace data: packs, where the chunks of snapshots lie, and which snapshots name them.
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

CREATE INDEX packs_of_lineage ON packs (workspace, lineage, id);

CREATE INDEX packs_condemned ON packs (condemned_at, id) WHERE state = 'condemned';

-- A pack that a snapshot names cannot go; a snapshot that goes names nothing any more.
CREATE TABLE snapshot_packs (
    workspace TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    pack TEXT NOT NULL,
    PRIMARY KEY (workspace, snapshot, pack),
    FOREIGN KEY (workspace, snapshot) REFERENCES snapshots (workspace, id) ON DELETE CASCADE,
    FOREIGN KEY (workspace, pack) REFERENCES packs (workspace, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_of_pack ON snapshot_packs (workspace, pack);
