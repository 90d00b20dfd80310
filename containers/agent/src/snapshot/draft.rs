//! A tree that is being made into a snapshot: its entries, its chunks and where those are.

use std::collections::{HashMap, HashSet};

use burstflare_ports::wire::path;
use burstflare_ports::wire::snapshot::tree::{Body, Entry, Extent, File};
use burstflare_ports::wire::snapshot::{Changed, Hash, MAX_CHANGED, MAX_CHUNKS, MAX_TREE_EXTENTS};

use super::content::{Content, Piece};
use crate::reply::Refused;

/// Where a chunk is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In the parent's packs, by its number there.
    Parent(u32),
    /// In the file of this entry, from this byte on.
    Entry(u32, u64),
    /// In a pack that is made just now, by its number among those.
    New { pack: u32, offset: u32, stored: u32 },
    /// Nowhere any more: the file changed before it was packed.
    Lost,
}

/// A chunk of the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) hash: Hash,
    pub(super) plain: u32,
    pub(super) source: Source,
}

/// A file of several names.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) inode: u64,
    /// Entries of all names but the first.
    pub(super) names: Vec<u32>,
}

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Sorted by path. Extents name chunks of `chunks`; hard links name groups, in no order.
    pub(super) entries: Vec<Entry>,
    pub(super) chunks: Vec<Known>,
    pub(super) numbers: HashMap<Hash, u32>,
    /// Files of several names.
    pub(super) groups: Vec<Group>,
    /// Entries that are gone.
    pub(super) gone: Vec<u32>,
    pub(super) changed: Changed,
}

impl Draft {
    /// The number of a chunk; a new one gets its source asked for.
    pub(super) fn number(
        &mut self,
        hash: Hash,
        plain: u32,
        source: impl FnOnce() -> Source,
    ) -> Result<u32, Refused> {
        if let Some(number) = self.numbers.get(&hash) {
            return Ok(*number);
        }
        let number = u32::try_from(self.chunks.len()).ok().filter(|number| *number < MAX_CHUNKS);
        let Some(number) = number else {
            return Err(Refused::too_large(format!("The tree has more than {MAX_CHUNKS} chunks.")));
        };
        self.chunks.push(Known { hash, plain, source: source() });
        self.numbers.insert(hash, number);
        Ok(number)
    }

    /// Puts what was read into its entry, with a source for each chunk that is new. Answers an entry that has to be
    /// read because of it: another name of a file whose first name leads elsewhere by now.
    pub(super) fn fill(
        &mut self,
        at: u32,
        content: &Content,
        source: &mut impl FnMut(&Hash, u64) -> Source,
    ) -> Result<Option<u32>, Refused> {
        let mut extents = Vec::with_capacity(content.pieces.len());
        let mut offset = 0;
        for piece in &content.pieces {
            extents.push(match piece {
                Piece::Hole(length) => Extent::Hole(*length),
                Piece::Chunk { hash, plain } => {
                    Extent::Chunk(self.number(*hash, *plain, || source(hash, offset))?)
                }
            });
            offset += piece.length();
        }
        if content.changed {
            self.note_change(at, content.torn);
        }
        let Some(entry) = self.entries.get_mut(at as usize) else { return Ok(None) };
        let Body::File(file) = &mut entry.body else { return Ok(None) };
        let group = file.group;
        let another = content.seen.inode != file.inode;
        // Where it was unreadable its mode was lifted when this was seen.
        if entry.mode & 0o400 != 0 || another {
            entry.mode = content.seen.mode;
        }
        entry.mtime_ns = content.seen.mtime_ns;
        *file = File {
            size: content.size,
            hash: content.hash,
            extents,
            group: group.filter(|_| !another),
            ctime_ns: content.seen.ctime_ns,
            inode: content.seen.inode,
        };
        Ok(group.filter(|_| another).and_then(|group| self.promote(group)))
    }

    /// An entry is no file any more. Answers as [`Self::fill`].
    pub(super) fn lose(&mut self, at: u32) -> Option<u32> {
        self.note_change(at, false);
        self.gone.push(at);
        let Some(Entry { body: Body::File(file), .. }) = self.entries.get(at as usize) else { return None };
        file.group.and_then(|group| self.promote(group))
    }

    pub(super) fn note_change(&mut self, at: u32, torn: bool) {
        self.changed.files += 1;
        self.changed.torn += u64::from(torn);
        if let Some(entry) = self.entries.get(at as usize).filter(|_| self.changed.paths.len() < MAX_CHANGED)
        {
            self.changed.paths.push(path::encode(&entry.path));
        }
    }

    /// The next name of a group becomes its first.
    fn promote(&mut self, group: u32) -> Option<u32> {
        let Group { inode, names } =
            self.groups.get_mut(group as usize).filter(|group| !group.names.is_empty())?;
        let at = names.remove(0);
        let entry = self.entries.get_mut(at as usize)?;
        entry.body = Body::File(File {
            size: 0,
            hash: Hash::default(),
            extents: Vec::new(),
            group: Some(group),
            ctime_ns: 0,
            inode: *inode,
        });
        Some(at)
    }

    /// Shows the tree as it stands in a manifest: without what is gone, groups and chunks numbered in the order of
    /// their first use, further names like their first. Answers the chunks in that order.
    pub(super) fn show(
        &self,
        mut each: impl FnMut(&Entry) -> Result<(), Refused>,
    ) -> Result<Vec<Known>, Refused> {
        let gone: HashSet<u32> = self.gone.iter().copied().collect();
        let mut order = Order { numbers: vec![u32::MAX; self.chunks.len()], used: Vec::new() };
        let mut groups: HashMap<u32, Entry> = HashMap::new();
        let mut extents = 0;
        for (at, entry) in self.entries.iter().enumerate() {
            if u32::try_from(at).is_ok_and(|at| gone.contains(&at)) {
                continue;
            }
            let mut entry = entry.clone();
            match &mut entry.body {
                Body::File(file) => {
                    extents += file.extents.len();
                    if extents > MAX_TREE_EXTENTS {
                        return Err(Refused::too_large("The files have too many parts together."));
                    }
                    for extent in &mut file.extents {
                        if let Extent::Chunk(chunk) = extent {
                            *chunk = order.number(&self.chunks, *chunk);
                        }
                    }
                    if let Some(group) = file.group {
                        let number = u32::try_from(groups.len()).unwrap_or(u32::MAX);
                        file.group = Some(number);
                        let body = Body::Name { group: number, size: file.size, hash: file.hash };
                        groups.insert(
                            group,
                            Entry { path: Vec::new(), mode: entry.mode, mtime_ns: entry.mtime_ns, body },
                        );
                    }
                }
                Body::Name { group, .. } => {
                    if let Some(first) = groups.get(group) {
                        entry = Entry { path: entry.path, ..first.clone() };
                    }
                }
                Body::Folder | Body::Link(_) | Body::Pipe => {}
            }
            each(&entry)?;
        }
        Ok(order.used)
    }
}

/// Chunks by the order of their first use.
struct Order {
    numbers: Vec<u32>,
    used: Vec<Known>,
}

impl Order {
    fn number(&mut self, chunks: &[Known], chunk: u32) -> u32 {
        let at = chunk as usize;
        let (Some(number), Some(known)) = (self.numbers.get_mut(at), chunks.get(at)) else { return u32::MAX };
        if *number == u32::MAX {
            *number = u32::try_from(self.used.len()).unwrap_or(u32::MAX);
            self.used.push(*known);
        }
        *number
    }
}
