//! What differs between two trees of snapshots.

use std::cmp::Ordering;
use std::io::Read;

use burstflare_ports::wire::snapshot::SnapshotError;
use burstflare_ports::wire::snapshot::tree::{Body, Entry, Reader};
use burstflare_ports::wire::tree::Kind;
use serde::{Deserialize, Serialize};

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It is there now.
    Added,
    /// It is no longer there.
    Removed,
    /// It is there in both.
    Changed {
        /// It is of another type.
        kind: bool,
        /// Its bytes, or the target of a link, are others.
        content: bool,
        /// Its permission bits are others.
        mode: bool,
    },
}

/// A path that differs. Times are not compared: they do not tell trees apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Without leading slash. Bytes that need not be text; written as Base64.
    #[serde(with = "path")]
    pub path: Vec<u8>,
    /// What became of it.
    pub change: Change,
    /// Its type; the earlier one's where it was removed.
    pub kind: Kind,
    /// Bytes before, of a file.
    pub before: Option<u64>,
    /// Bytes now, of a file.
    pub after: Option<u64>,
}

mod path {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(path))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD_NO_PAD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Entries of a tree, in order.
pub trait Entries {
    /// The next one.
    ///
    /// # Errors
    /// On damage.
    fn next(&mut self) -> Result<Option<Entry>, SnapshotError>;
}

impl<R: Read> Entries for Reader<R> {
    fn next(&mut self) -> Result<Option<Entry>, SnapshotError> {
        Reader::next(self)
    }
}

/// The tree of nothing.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Entries for Nothing {
    fn next(&mut self) -> Result<Option<Entry>, SnapshotError> {
        Ok(None)
    }
}

/// At most `limit` differences behind the first `skip`, in the order of paths, and whether there are more. Reads both
/// trees once, side by side, and holds one entry of each.
///
/// # Errors
/// On damage.
pub fn differences(
    before: &mut impl Entries,
    after: &mut impl Entries,
    mut skip: u64,
    limit: usize,
) -> Result<(Vec<Difference>, bool), SnapshotError> {
    let mut found = Vec::new();
    let (mut old, mut new) = (before.next()?, after.next()?);
    loop {
        let order = match (&old, &new) {
            (None, None) => return Ok((found, false)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.path.cmp(&new.path),
        };
        let difference = match order {
            Ordering::Less => old.as_ref().map(|old| one_sided(old, Change::Removed)),
            Ordering::Greater => new.as_ref().map(|new| one_sided(new, Change::Added)),
            Ordering::Equal => old.as_ref().zip(new.as_ref()).and_then(|(old, new)| compared(old, new)),
        };
        if difference.is_some() && skip > 0 {
            skip -= 1;
        } else if let Some(difference) = difference {
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push(difference);
        }
        if order != Ordering::Greater {
            old = before.next()?;
        }
        if order != Ordering::Less {
            new = after.next()?;
        }
    }
}

fn one_sided(entry: &Entry, change: Change) -> Difference {
    let size = is_file(entry).then(|| entry.size());
    let (before, after) = if change == Change::Removed { (size, None) } else { (None, size) };
    Difference { path: entry.path.clone(), change, kind: entry.kind(), before, after }
}

fn compared(old: &Entry, new: &Entry) -> Option<Difference> {
    let kind = old.kind() != new.kind();
    let content = match (&old.body, &new.body) {
        (Body::Link(old), Body::Link(new)) => old != new,
        _ => old.hash() != new.hash() || old.size() != new.size(),
    };
    // Links have no permissions of their own.
    let mode = old.mode != new.mode && new.kind() != Kind::Link;
    (kind || content || mode).then(|| Difference {
        path: new.path.clone(),
        change: Change::Changed { kind, content: content || kind, mode },
        kind: new.kind(),
        before: is_file(old).then(|| old.size()),
        after: is_file(new).then(|| new.size()),
    })
}

fn is_file(entry: &Entry) -> bool {
    entry.kind() == Kind::File
}
