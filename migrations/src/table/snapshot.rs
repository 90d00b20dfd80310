use burstflare_ports::error::PortResult;
use burstflare_ports::record::Snapshot;

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    Snapshot in "snapshots", key [workspace, id],
    columns [
        session, kind, state, format, blob, digest, files, bytes, stored, epoch, created_at, label, parent, packed,
        verified_at, due_at, failure, revision
    ]
    {
        SNAPSHOT = "workspace = ? AND id = ?";
        SNAPSHOTS = "workspace = ? AND session = ? AND id < ? ORDER BY id DESC LIMIT ?";
        SNAPSHOTS_BY_LABEL = "workspace = ? AND label = ? ORDER BY id DESC LIMIT ?";
        /// The state is a literal, as in the index that serves this.
        PENDING_SNAPSHOT = "workspace = ? AND session = ? AND state = 'pending'";
        DUE_SNAPSHOTS = "due_at <= ? ORDER BY due_at, id LIMIT ?";
    }
}

/// A row where a session has a pending snapshot.
pub(crate) const SNAPSHOT_PENDS: &str =
    "SELECT 1 FROM snapshots WHERE workspace = ? AND session = ? AND state = 'pending'";
/// A row where a snapshot that has not failed names the blob.
pub(crate) const SNAPSHOT_NAMES: &str =
    "SELECT 1 FROM snapshots WHERE workspace = ? AND blob = ? AND state <> 'failed' LIMIT 1";

pub(super) const SNAPSHOT_STATEMENTS: &[&[&str]] = &[Snapshot::STATEMENTS, &[SNAPSHOT_PENDS, SNAPSHOT_NAMES]];
