-- Sessions: when somebody last asked for a machine, so that a sleep for idleness never overtakes a start.
ALTER TABLE sessions ADD COLUMN wanted_at INTEGER;
