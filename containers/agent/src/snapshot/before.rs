//! The parent's tree, read beside the walk: both are sorted, so each is passed once.

use std::io::Read;
use std::sync::Arc;

use burstflare_ports::wire::snapshot::manifest::{Decoder, Part, Tables};
use burstflare_ports::wire::snapshot::tree::{Body, Entry, File, Reader};
use burstflare_ports::wire::snapshot::{Hash, SnapshotError};

use crate::reply::Refused;

/// The largest zstd window that is accepted, as a power of two.
const WINDOW: u32 = 27;
/// Bytes taken from a body at once.
const PIECE: usize = 256 << 10;

impl From<SnapshotError> for Refused {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Corrupt(_) => Self::corrupt(format!("The snapshot is damaged: {error}.")),
            SnapshotError::Unsupported(_) => {
                Self::unacceptable(format!("The snapshot cannot be read: {error}."))
            }
        }
    }
}

/// A manifest in memory: tables, and the tree still compressed.
pub(super) struct Manifest {
    pub(super) tables: Arc<Tables>,
    tree: Vec<u8>,
}

/// Takes a manifest as it comes.
#[derive(Default)]
pub(super) struct Taking {
    decoder: Decoder,
    packs: Vec<burstflare_ports::wire::snapshot::Pack>,
    chunks: Vec<burstflare_ports::wire::snapshot::Chunk>,
    tree: Vec<u8>,
}

impl Taking {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        for part in self.decoder.push(bytes)? {
            match part {
                Part::Header(_) => {}
                Part::Packs(more) => self.packs.extend(more),
                Part::Chunks(more) => self.chunks.extend(more),
                Part::Tree(more) => self.tree.extend_from_slice(&more),
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Manifest, SnapshotError> {
        let header = self.decoder.finish()?;
        let tables = Arc::new(Tables { header, packs: self.packs, chunks: self.chunks });
        Ok(Manifest { tables, tree: self.tree })
    }
}

impl Manifest {
    /// Reads one; `None` where there are no bytes at all.
    pub(super) fn read(mut from: impl Read) -> Result<Option<Self>, Refused> {
        let mut taking = Taking::default();
        let mut piece = vec![0; PIECE];
        let mut any = false;
        loop {
            match from.read(&mut piece)? {
                0 if any => return Ok(Some(taking.finish()?)),
                0 => return Ok(None),
                length => taking.push(piece.get(..length).unwrap_or_default())?,
            }
            any = true;
        }
    }

    /// The tree, entry by entry.
    pub(super) fn entries(&self) -> Result<Reader<impl Read + '_>, Refused> {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(&self.tree[..])?.single_frame();
        decoder.window_log_max(WINDOW)?;
        Ok(Reader::new(decoder, Arc::clone(&self.tables))?)
    }
}

/// A file as the parent knew it.
pub(super) struct Was<'b> {
    pub(super) mtime_ns: i64,
    pub(super) file: &'b File,
}

/// Goes along the parent's tree.
pub(super) struct Before<R> {
    reader: Reader<R>,
    ahead: Option<Entry>,
    groups: Vec<(i64, File)>,
    /// The last one found.
    found: Option<Entry>,
}

impl<R: Read> Before<R> {
    pub(super) fn new(reader: Reader<R>) -> Result<Self, Refused> {
        let mut before = Self { reader, ahead: None, groups: Vec::new(), found: None };
        before.step()?;
        Ok(before)
    }

    fn step(&mut self) -> Result<(), Refused> {
        self.ahead = self.reader.next()?;
        if let Some(Entry { mtime_ns, body: Body::File(file @ File { group: Some(_), .. }), .. }) =
            &self.ahead
        {
            self.groups.push((*mtime_ns, file.clone()));
        }
        Ok(())
    }

    /// The file of this path; paths have to come sorted.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<Was<'_>>, Refused> {
        while self.ahead.as_ref().is_some_and(|ahead| ahead.path.as_slice() < path) {
            self.step()?;
        }
        if self.ahead.as_ref().is_none_or(|ahead| ahead.path != path) {
            return Ok(None);
        }
        self.found = self.ahead.take();
        self.step()?;
        Ok(match &self.found {
            Some(Entry { mtime_ns, body: Body::File(file), .. }) => Some(Was { mtime_ns: *mtime_ns, file }),
            Some(Entry { body: Body::Name { group, .. }, .. }) => {
                self.groups.get(*group as usize).map(|(mtime_ns, file)| Was { mtime_ns: *mtime_ns, file })
            }
            _ => None,
        })
    }

    /// Reads to the end, so that damage anywhere is found.
    pub(super) fn finish(mut self) -> Result<(), Refused> {
        while self.ahead.is_some() {
            self.step()?;
        }
        Ok(())
    }
}

/// The name of a disk as it stands in manifests.
pub(super) fn disk_hash(disk: &str) -> Hash {
    if disk.is_empty() { Hash::default() } else { Hash::of(disk.as_bytes()) }
}
