//! Folders as archives, for copies between a session and somebody's machine: `GET` and `PUT /v1/archive` here, and the
//! same two functions on the other side. Whoever unpacks trusts nothing: names stay below the folder, links that lead
//! out, devices and set-id bits are left out, nothing is written through a link, and a folder is never replaced by
//! something else. Everything is unpacked beside its place first, so what breaks off leaves nothing.
//!
//! The archive is a tar: the folder itself as `.`, then what is in it, parents first. What could not be read, or is
//! neither file, folder nor link, is named as a pipe, so that the other side can tell of it.

mod pack;
mod settle;
mod unpack;

pub use self::pack::{Packed, pack};
pub use self::unpack::{Staged, Unpacked, stage};
