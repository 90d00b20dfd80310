-- Sessions: what they were forked from, which disk they are on, and how far their files are in a snapshot.
ALTER TABLE sessions ADD COLUMN lineage TEXT NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN forked_from TEXT;

ALTER TABLE sessions ADD COLUMN disk INTEGER NOT NULL DEFAULT 0;

ALTER TABLE sessions ADD COLUMN saved_at INTEGER;

ALTER TABLE sessions ADD COLUMN unsaved INTEGER NOT NULL DEFAULT 0;

UPDATE sessions SET lineage = id;

UPDATE sessions SET unsaved = 1 WHERE state <> 'created' AND (state <> 'sleeping' OR failure IS NOT NULL);
