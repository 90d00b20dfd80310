//! Snapshots in format 2.

mod before;
mod content;
mod draft;
mod pack;
mod packing;
mod reach;
mod restore;
mod scan;
mod seen;
pub(crate) mod swap;
mod walk;
mod work;

#[cfg(test)]
pub(crate) use swap::crash::is_dead;
