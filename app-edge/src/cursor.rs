//! Pages of lists: `limit` and `cursor` in, `next_cursor` out.
//!
//! A cursor is base64url of what it belongs to (list and workspace) and where the next page begins. It is no secret
//! and gives nothing: it is bound so that one of another list is an error and not a strange page.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use burstflare_core::Caller;
use burstflare_core::service::{List, PageQuery};

use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::resource::Page;

/// Items of a page unless asked otherwise.
const DEFAULT_LIMIT: usize = 50;
/// The longest cursor that is looked at.
const LONGEST: usize = 2048;

/// One list of one workspace.
pub(crate) struct Listing {
    binding: String,
}

impl Listing {
    /// The list called `name` (with what it is about, if it is a list within something).
    pub(crate) fn new(caller: &Caller, name: &str) -> Self {
        Self { binding: format!("{}/{name}", caller.workspace.id) }
    }

    /// The wanted page.
    pub(crate) fn query<C: FromStr>(&self, query: &mut Query) -> Answer<PageQuery<C>> {
        let limit = query.number("limit")?.unwrap_or(DEFAULT_LIMIT);
        let after = query.text("cursor")?.map(|text| self.read(&text)).transpose()?;
        Ok(PageQuery::new(after, limit)?)
    }

    /// The answer.
    pub(crate) fn page<T, R: From<T>, C: Display>(&self, list: List<T, C>) -> Page<R> {
        Page {
            items: list.items.into_iter().map(R::from).collect(),
            next_cursor: list.next.map(|next| URL_SAFE_NO_PAD.encode(format!("{}/{next}", self.binding))),
        }
    }

    /// A list with this binding.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn probe(binding: &str) -> Self {
        Self { binding: binding.to_owned() }
    }

    pub(crate) fn read<C: FromStr>(&self, text: &str) -> Answer<C> {
        let foreign = || Refusal::invalid("cursor", "the cursor does not belong to this list");
        let bytes = Some(text).filter(|text| text.len() <= LONGEST).ok_or_else(foreign)?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).map_err(|_| foreign())?;
        let whole = String::from_utf8(bytes).map_err(|_| foreign())?;
        let (binding, position) = whole.rsplit_once('/').ok_or_else(foreign)?;
        if binding != self.binding {
            return Err(foreign());
        }
        position.parse().map_err(|_| foreign())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(binding: &str) -> Listing {
        Listing { binding: binding.to_owned() }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list_alone() {
        let page: Page<u8> = listing("ws_1/audit").page(List { items: vec![1_u8], next: Some(7_u64) });
        let cursor = page.next_cursor.expect("there is more");
        assert_eq!(listing("ws_1/audit").read::<u64>(&cursor).ok(), Some(7));
        for other in ["ws_2/audit", "ws_1/templates", "ws_1"] {
            assert!(listing(other).read::<u64>(&cursor).is_err(), "{other}");
        }
        for bad in ["", "!", "AA", &"A".repeat(1000)] {
            assert!(listing("ws_1/audit").read::<u64>(bad).is_err(), "{bad}");
        }
    }
}
