-- Snapshots in two formats, with labels, parents and a moment at which they are looked at again.
ALTER TABLE snapshots ADD COLUMN label TEXT;

ALTER TABLE snapshots ADD COLUMN parent TEXT;

ALTER TABLE snapshots ADD COLUMN packed INTEGER NOT NULL DEFAULT 0;

ALTER TABLE snapshots ADD COLUMN verified_at INTEGER;

ALTER TABLE snapshots ADD COLUMN due_at INTEGER;

ALTER TABLE snapshots ADD COLUMN failure TEXT;

-- What was complete was verified; what was being taken when the earlier version ended was cut off.
UPDATE snapshots SET verified_at = created_at WHERE state = 'complete';

UPDATE snapshots SET state = 'failed', due_at = created_at, revision = revision + 1 WHERE state <> 'complete';

INSERT INTO counters (workspace, name, subject, value)
    SELECT workspace, 'snapshots', session, COUNT(*) FROM snapshots WHERE kind = 'manual' GROUP BY workspace, session;

CREATE UNIQUE INDEX snapshots_pending ON snapshots (workspace, session) WHERE state = 'pending';

CREATE INDEX snapshots_label ON snapshots (workspace, label, id) WHERE label IS NOT NULL;

CREATE INDEX snapshots_blob ON snapshots (workspace, blob);

CREATE INDEX snapshots_due ON snapshots (due_at, id) WHERE due_at IS NOT NULL;
