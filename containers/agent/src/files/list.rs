//! One page of a folder. What is held is the page, however many names the folder has.

use std::collections::BinaryHeap;
use std::os::fd::{AsFd, OwnedFd};

use burstflare_ports::wire::files::{FolderPage, PAGE_LIMIT};
use burstflare_ports::wire::path;
use rustix::fs::{Dir, Mode, OFlags};

use super::place::{Place, join};
use super::{info, refuse};
use crate::folder;
use crate::reply::Refused;

/// Unless asked otherwise.
const LIMIT: usize = 200;

/// The names of a folder behind `after`.
pub(super) fn page(
    place: &Place,
    handle: &OwnedFd,
    limit: Option<usize>,
    after: Option<&[u8]>,
) -> Result<FolderPage, Refused> {
    let limit = limit.unwrap_or(LIMIT).clamp(1, PAGE_LIMIT);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(handle, ".", flags, Mode::empty()).map_err(refuse::of)?;
    // The smallest names behind the mark, and one more that tells whether there is more.
    let mut smallest: BinaryHeap<Vec<u8>> = BinaryHeap::with_capacity(limit + 2);
    for entry in Dir::read_from(&opened).map_err(refuse::of)? {
        let entry = entry.map_err(refuse::of)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || after.is_some_and(|after| name <= after) {
            continue;
        }
        if smallest.len() > limit && smallest.peek().is_some_and(|largest| name >= &largest[..]) {
            continue;
        }
        smallest.push(name.to_vec());
        if smallest.len() > limit + 1 {
            smallest.pop();
        }
    }
    let mut names = smallest.into_sorted_vec();
    let more = names.len() > limit;
    names.truncate(limit);
    let next = names.last().filter(|_| more).map(|name| path::encode(name));
    let items = names.iter().filter_map(|name| {
        // Gone since the listing: left out.
        let stat = folder::stat(opened.as_fd(), name).ok()?;
        let below =
            if place.below.is_empty() { name.clone() } else { [&place.below[..], b"/", name].concat() };
        Some(info::info(join(place.root_path(), &below), &stat, opened.as_fd(), name))
    });
    let items = items.collect();
    let stat = rustix::fs::fstat(&opened).map_err(refuse::of)?;
    Ok(FolderPage { folder: info::info(place.text(), &stat, opened.as_fd(), b"."), items, next })
}
