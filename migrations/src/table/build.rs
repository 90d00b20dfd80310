use burstflare_ports::error::PortResult;
use burstflare_ports::record::{Build, LogChunk};

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    Build in "builds", key [workspace, id],
    columns [
        template, version, state, step, steps, attempt, sealed_key, epoch, deadline, failure, created_at, started_at,
        finished_at, revision
    ]
    {
        BUILD = "workspace = ? AND id = ?";
        BUILDS = "workspace = ? AND id < ? ORDER BY id DESC LIMIT ?";
        OVERDUE_BUILDS = "state IN ('queued', 'running') AND id > ? AND deadline <= ? ORDER BY id LIMIT ?";
    }
}

table! {
    LogChunk in "log_chunks", key [workspace, build, attempt, offset], columns [size, blob]
    {
        /// From the last piece that begins at or before the wanted byte: found by the key, not by passing all before.
        LOG_CHUNKS = "workspace = ?1 AND build = ?2 AND attempt = ?3 AND offset >= COALESCE(\
            (SELECT MAX(offset) FROM log_chunks \
             WHERE workspace = ?1 AND build = ?2 AND attempt = ?3 AND offset <= ?4), 0) \
            AND offset + size > ?4 ORDER BY offset LIMIT ?5";
    }
}

pub(super) const BUILD_STATEMENTS: &[&[&str]] = &[Build::STATEMENTS, LogChunk::STATEMENTS];
