use burstflare_ports::error::PortResult;
use burstflare_ports::record::PortSetting;

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    PortSetting in "port_settings", key [workspace, session, port],
    columns [visibility, expires_at, changed_at, revision]
    {
        PORT_SETTING = "workspace = ? AND session = ? AND port = ?";
        PORT_SETTINGS = "workspace = ? AND session = ? AND port > ? ORDER BY port LIMIT ?";
    }
}

pub(super) const PREVIEW_STATEMENTS: &[&[&str]] = &[PortSetting::STATEMENTS];
