//! Every statement, beside the record whose rows it reads or writes. Parameters are plain `?` in the order in which
//! they stand, unless one is used twice.
//!
//! A record's columns have the names of its fields and are listed once, in its `table!`: from that list come
//! its INSERT and UPDATE (columns first, then the key, so both take the same parameters), its SELECTs and the code
//! that takes a row apart. Lists read with a limit of one more than the page, to know whether there is more.

mod access;
mod build;
mod counter;
mod journal;
mod outbox;
mod pack;
mod preview;
mod release;
mod secret;
mod session;
mod snapshot;
mod template;
mod workspace;

use burstflare_ports::error::PortResult;

use crate::column::Reader;
use crate::database::Value;

pub(crate) use access::*;
pub(crate) use build::*;
pub(crate) use counter::*;
pub(crate) use journal::*;
pub(crate) use outbox::*;
pub(crate) use pack::*;
pub(crate) use preview::*;
pub(crate) use release::*;
pub(crate) use secret::*;
pub(crate) use session::*;
pub(crate) use snapshot::*;
pub(crate) use template::*;
pub(crate) use workspace::*;

/// A record with a table.
pub(crate) trait Stored: Sized {
    /// A new row.
    const INSERT: &'static str;
    /// Writes over the row with the same key.
    const UPDATE: &'static str;
    /// Removes the row of a key.
    const DELETE: &'static str;
    /// One row where the key exists: a part of guards.
    const HAS: &'static str;
    /// All of the above and the SELECTs.
    const STATEMENTS: &'static [&'static str];

    /// The parameters of INSERT and UPDATE.
    fn values(&self) -> PortResult<Vec<Value>>;
    /// Takes the columns of this record off a row.
    fn read(row: &mut Reader) -> PortResult<Self>;
}

/// All statements, for the test that looks at their query plans. Guards stand there as the condition they wrap.
#[must_use]
pub fn statements() -> Vec<&'static str> {
    [
        ACCESS_STATEMENTS,
        BUILD_STATEMENTS,
        COUNTER_STATEMENTS,
        JOURNAL_STATEMENTS,
        OUTBOX_STATEMENTS,
        PACK_STATEMENTS,
        PREVIEW_STATEMENTS,
        RELEASE_STATEMENTS,
        SECRET_STATEMENTS,
        SESSION_STATEMENTS,
        SNAPSHOT_STATEMENTS,
        TEMPLATE_STATEMENTS,
        WORKSPACE_STATEMENTS,
        crate::local::ALL,
    ]
    .into_iter()
    .flatten()
    .flat_map(|list| list.iter().copied())
    .collect()
}

macro_rules! names {
    ([$first:ident $(, $name:ident)* $(,)?]) => { concat!(stringify!($first) $(, ", ", stringify!($name))*) };
}
macro_rules! marks {
    ([$first:ident $(, $name:ident)* $(,)?]) => { concat!("?" $(, marks!($name))*) };
    ($name:ident) => { ", ?" };
}
macro_rules! assignments {
    ([$first:ident $(, $name:ident)* $(,)?]) => {
        concat!(stringify!($first), " = ?" $(, ", ", stringify!($name), " = ?")*)
    };
}
macro_rules! conditions {
    ([$first:ident $(, $name:ident)* $(,)?]) => {
        concat!(stringify!($first), " = ?" $(, " AND ", stringify!($name), " = ?")*)
    };
}
macro_rules! record_of {
    ($record:ident, $row:ident, [$($column:ident),+ $(,)?], [$($key:ident),+ $(,)?]) => {
        $record {
            $($column: $row.next(concat!(stringify!($record), ".", stringify!($column)))?,)+
            $($key: $row.next(concat!(stringify!($record), ".", stringify!($key)))?,)+
        }
    };
}
macro_rules! values_of {
    ($record:ident, [$($column:ident),+ $(,)?], [$($key:ident),+ $(,)?]) => {
        vec![$(Column::encode(&$record.$column)?,)+ $(Column::encode(&$record.$key)?,)+]
    };
}

/// Gives a record its table: `table! { Record in "table", key [..], columns [..] { NAME = "condition"; .. } }`.
macro_rules! table {
    (
        $record:ident in $table:literal, key $key:tt, columns $columns:tt
        { $($(#[$meta:meta])* $name:ident = $tail:literal;)* }
    ) => {
        impl Stored for $record {
            const INSERT: &'static str = concat!(
                "INSERT INTO ", $table, " (", names!($columns), ", ", names!($key), ") VALUES (",
                marks!($columns), ", ", marks!($key), ")"
            );
            const UPDATE: &'static str =
                concat!("UPDATE ", $table, " SET ", assignments!($columns), " WHERE ", conditions!($key));
            const DELETE: &'static str = concat!("DELETE FROM ", $table, " WHERE ", conditions!($key));
            const HAS: &'static str = concat!("SELECT 1 FROM ", $table, " WHERE ", conditions!($key));
            const STATEMENTS: &'static [&'static str] =
                &[Self::INSERT, Self::UPDATE, Self::DELETE, Self::HAS, $($name),*];

            fn values(&self) -> PortResult<Vec<Value>> {
                let record = self;
                Ok(values_of!(record, $columns, $key))
            }

            fn read(row: &mut Reader) -> PortResult<Self> {
                Ok(record_of!($record, row, $columns, $key))
            }
        }
        $(
            $(#[$meta])*
            pub(crate) const $name: &str =
                concat!("SELECT ", names!($columns), ", ", names!($key), " FROM ", $table, " WHERE ", $tail);
        )*
    };
}
use {assignments, conditions, marks, names, record_of, table, values_of};
