use burstflare_ports::error::PortResult;
use burstflare_ports::record::{SecretEntry, SecretKey};

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    SecretKey in "secret_keys", key [workspace],
    columns [sealed, master, created_at, revision]
    {
        SECRET_KEY = "workspace = ?";
        /// On both sides of a name lie all others; the index serves each.
        SECRET_KEYS_OF_OTHERS = "workspace IN (SELECT workspace FROM secret_keys WHERE master < ?1 \
            UNION ALL SELECT workspace FROM secret_keys WHERE master > ?1) LIMIT ?2";
    }
}

table! {
    SecretEntry in "secrets", key [workspace, id],
    columns [name, sealed, bytes, changed_by, created_at, changed_at, revision]
    {
        SECRET_BY_NAME = "workspace = ? AND name = ?";
        SECRETS = "workspace = ? AND id < ? ORDER BY id DESC LIMIT ?";
    }
}

/// A row where the name is taken.
pub(crate) const SECRET_NAME_TAKEN: &str = "SELECT 1 FROM secrets WHERE workspace = ? AND name = ?";

pub(super) const SECRET_STATEMENTS: &[&[&str]] =
    &[SecretKey::STATEMENTS, SecretEntry::STATEMENTS, &[SECRET_NAME_TAKEN]];
