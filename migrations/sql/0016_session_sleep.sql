-- Sessions: their own idle time, and what ended their last machine.
ALTER TABLE sessions ADD COLUMN sleep_after_s INTEGER;

ALTER TABLE sessions ADD COLUMN stopped_by TEXT
    CONSTRAINT sessions_stopped_by CHECK (stopped_by IN ('person', 'idle', 'server', 'machine'));
