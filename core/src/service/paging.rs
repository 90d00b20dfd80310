//! Pages of lists.

use burstflare_ports::id::{Id, Kind};
use burstflare_ports::store::{PAGE_LIMIT, Page};

use crate::error::{Error, Result};

/// Which page of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageQuery<C> {
    /// Behind which item it begins.
    pub after: Option<C>,
    /// How many items at most, 1 to 200.
    pub limit: usize,
}

impl<C> PageQuery<C> {
    /// A query with a checked limit.
    ///
    /// # Errors
    /// When the limit is not 1 to 200.
    pub fn new(after: Option<C>, limit: usize) -> Result<Self> {
        if !(1..=PAGE_LIMIT).contains(&limit) {
            return Err(Error::invalid("limit", format!("limit is 1 to {PAGE_LIMIT}")));
        }
        Ok(Self { after, limit })
    }
}

/// A page of a list, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T, C> {
    /// The items.
    pub items: Vec<T>,
    /// Cursor of the next page, if there is one.
    pub next: Option<C>,
}

/// Turns a store's page into a list whose cursor is the last item's id.
pub(super) fn list<T, K: Kind>(page: Page<T>, id: impl Fn(&T) -> Id<K>) -> List<T, Id<K>> {
    let next = if page.more { page.items.last().map(&id) } else { None };
    List { items: page.items, next }
}
