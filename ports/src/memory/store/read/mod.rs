//! The reads. Each is a walk over a table: tests are small, and their orders are those of the keys.

mod access;
mod build;
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

use super::checked;
use crate::error::PortResult;
use crate::id::{Id, Kind};
use crate::store::Page;

/// The first `limit` of what is given, and whether there is more.
fn page<T>(items: impl Iterator<Item = T>, limit: usize) -> PortResult<Page<T>> {
    let limit = checked(limit)?;
    let mut items: Vec<_> = items.take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

/// Whether an id lies behind a cursor, the newest first.
fn older<K: Kind>(id: Id<K>, after: Option<Id<K>>) -> bool {
    after.is_none_or(|after| id < after)
}

/// Whether an id lies behind a cursor, the oldest first.
fn newer<K: Kind>(id: Id<K>, after: Option<Id<K>>) -> bool {
    after.is_none_or(|after| id > after)
}
