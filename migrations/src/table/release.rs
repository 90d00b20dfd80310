use burstflare_ports::error::PortResult;
use burstflare_ports::record::Release;

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    Release in "releases", key [workspace, id],
    columns [template, version, number, cause, previous, created_by, created_at]
    {
        RELEASE = "workspace = ? AND id = ?";
        RELEASES = "workspace = ? AND id < ? ORDER BY id DESC LIMIT ?";
        RELEASES_OF_TEMPLATE = "workspace = ? AND template = ? AND id < ? ORDER BY id DESC LIMIT ?";
    }
}

pub(super) const RELEASE_STATEMENTS: &[&[&str]] = &[Release::STATEMENTS];
