use burstflare_ports::error::PortResult;
use burstflare_ports::record::Snapshot;

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    Snapshot in "snapshots", key [workspace, id],
    columns [session, kind, state, format, blob, digest, files, bytes, stored, epoch, created_at, revision]
    {
        SNAPSHOT = "workspace = ? AND id = ?";
        SNAPSHOTS = "workspace = ? AND session = ? AND id < ? ORDER BY id DESC LIMIT ?";
    }
}

pub(super) const SNAPSHOT_STATEMENTS: &[&[&str]] = &[Snapshot::STATEMENTS];
