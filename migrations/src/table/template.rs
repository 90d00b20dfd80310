use burstflare_ports::error::PortResult;
use burstflare_ports::record::{Template, Version};

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    Template in "templates", key [workspace, id],
    columns [name, created_by, current_release, archived_at, created_at, revision]
    {
        TEMPLATE = "workspace = ? AND id = ?";
        TEMPLATE_BY_NAME = "workspace = ? AND name = ?";
        TEMPLATES = "workspace = ? AND id < ? ORDER BY id DESC LIMIT ?";
    }
}

table! {
    Version in "versions", key [workspace, id],
    columns [template, label, state, bundle, spec, build, layer, created_by, created_at, revision]
    {
        VERSION = "workspace = ? AND id = ?";
        VERSION_BY_LABEL = "workspace = ? AND template = ? AND label = ?";
        VERSIONS = "workspace = ? AND template = ? AND id < ? ORDER BY id DESC LIMIT ?";
    }
}

/// A row where the name is taken.
pub(crate) const TEMPLATE_NAME_TAKEN: &str = "SELECT 1 FROM templates WHERE workspace = ? AND name = ?";
/// A row where the label is taken.
pub(crate) const VERSION_LABEL_TAKEN: &str =
    "SELECT 1 FROM versions WHERE workspace = ? AND template = ? AND label = ?";

pub(super) const TEMPLATE_STATEMENTS: &[&[&str]] =
    &[Template::STATEMENTS, Version::STATEMENTS, &[TEMPLATE_NAME_TAKEN, VERSION_LABEL_TAKEN]];
