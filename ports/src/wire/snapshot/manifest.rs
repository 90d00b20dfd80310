//! The manifest: what a snapshot is made of and where it lies.
//!
//! | bytes | |
//! |---|---|
//! | 128 | [`Header`] |
//! | 36 each | packs: hash, length; none twice, each with at least one chunk of the next table |
//! | 48 each | chunks: hash, number of the pack, offset, stored length, plain length |
//! | `tree_stored` | the tree section ([`super::tree`]), one zstd frame |
//! | 32 | BLAKE3 of everything before |
//!
//! The header: `FLARESNP`, format (`u32`), 0 (`u32`), number of packs (`u32`) and chunks (`u32`), entries, bytes,
//! `tree_stored` and `tree_plain` (`u64`), `began_ns` (`i64`), `disk` and `digest` (32 bytes each).
//!
//! Tables come first and plain, so that whoever only has to know the packs never decompresses anything. Packs and
//! chunks stand in the order in which the tree first uses them. A hash may stand in the table twice (with another
//! place); readers take either.

use bytes::{Buf, Bytes, BytesMut};

use super::records::{check_pack, check_range, take, take_hash, take_u32, take_u64};
use super::{
    Chunk, FORMAT, Hash, MAX_CHUNKS, MAX_ENTRIES, MAX_PACKS, MAX_TREE_PLAIN, MAX_TREE_STORED, Pack,
    SnapshotError, corrupt,
};

const MAGIC: &[u8; 8] = b"FLARESNP";
const HEADER: usize = 128;
const TRAILER: usize = 32;

/// The most bytes a manifest has.
pub const LIMIT: u64 = HEADER as u64
    + MAX_PACKS as u64 * Pack::SIZE as u64
    + MAX_CHUNKS as u64 * Chunk::SIZE as u64
    + MAX_TREE_STORED
    + TRAILER as u64;

/// The manifest's first part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Records in the table of packs.
    pub packs: u32,
    /// Records in the table of chunks.
    pub chunks: u32,
    /// Entries of the tree, the roots included.
    pub entries: u64,
    /// Bytes of all files together (hard links count as files).
    pub bytes: u64,
    /// Bytes of the tree section as it stands in the manifest.
    pub tree_stored: u64,
    /// And decompressed.
    pub tree_plain: u64,
    /// The machine's clock when the scan began, nanoseconds since the epoch.
    pub began_ns: i64,
    /// BLAKE3 of the disk's name; zeros for a disk without one, which is nobody's.
    pub disk: Hash,
    /// Digest of the tree.
    pub digest: Hash,
}

impl Header {
    /// The tree's summary, as format 1 gives it.
    #[must_use]
    pub fn summary(&self) -> crate::wire::tree::Summary {
        crate::wire::tree::Summary {
            format: FORMAT,
            digest: self.digest.to_string(),
            files: self.entries,
            bytes: self.bytes,
            archive_blake3: None,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        for number in [FORMAT, 0, self.packs, self.chunks] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.entries, self.bytes, self.tree_stored, self.tree_plain] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.began_ns.to_le_bytes());
        out.extend_from_slice(&self.disk.0);
        out.extend_from_slice(&self.digest.0);
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, SnapshotError> {
        let rest = &mut bytes;
        if take::<8>(rest) != Some(MAGIC) {
            return corrupt("this is no manifest");
        }
        match (take_u32(rest), take_u32(rest)) {
            (Some(FORMAT), Some(0)) => {}
            (Some(later), _) if later > FORMAT => return Err(SnapshotError::Unsupported(later)),
            _ => return corrupt("the manifest's format is unknown"),
        }
        let read = |rest: &mut &[u8]| {
            Some(Self {
                packs: take_u32(rest)?,
                chunks: take_u32(rest)?,
                entries: take_u64(rest)?,
                bytes: take_u64(rest)?,
                tree_stored: take_u64(rest)?,
                tree_plain: take_u64(rest)?,
                began_ns: take_u64(rest)?.cast_signed(),
                disk: take_hash(rest)?,
                digest: take_hash(rest)?,
            })
        };
        let Some(header) = read(rest) else { return corrupt("the manifest's header is cut off") };
        let fits = header.packs <= MAX_PACKS
            && header.chunks <= MAX_CHUNKS
            && (1..=MAX_ENTRIES).contains(&header.entries)
            && (1..=MAX_TREE_STORED).contains(&header.tree_stored)
            && (1..=MAX_TREE_PLAIN).contains(&header.tree_plain);
        if fits { Ok(header) } else { corrupt("a number in the manifest's header is out of bounds") }
    }
}

/// Header and tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// The header.
    pub header: Header,
    /// The packs.
    pub packs: Vec<Pack>,
    /// The chunks.
    pub chunks: Vec<Chunk>,
}

/// Writes a manifest piece by piece: header and tables, then the tree section, then the trailer.
#[derive(Debug)]
pub struct Encoder {
    hasher: blake3::Hasher,
}

impl Encoder {
    /// Header and tables as bytes. The numbers of packs and chunks are those of the tables.
    #[must_use]
    pub fn begin(tables: &Tables) -> (Self, Vec<u8>) {
        let size = HEADER + tables.packs.len() * Pack::SIZE + tables.chunks.len() * Chunk::SIZE;
        let mut out = Vec::with_capacity(size);
        tables.header.encode(&mut out);
        for pack in &tables.packs {
            pack.encode(&mut out);
        }
        for chunk in &tables.chunks {
            chunk.encode(&mut out);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&out);
        (Self { hasher }, out)
    }

    /// A piece of the compressed tree section follows; it is written as it is.
    pub fn tree(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    /// The trailer, and the BLAKE3 of the whole manifest with it.
    #[must_use]
    pub fn finish(mut self) -> ([u8; 32], Hash) {
        let trailer = self.hasher.finalize();
        self.hasher.update(trailer.as_bytes());
        (*trailer.as_bytes(), self.hasher.finalize().into())
    }
}

/// A manifest in one piece.
#[must_use]
pub fn encode(tables: &Tables, tree: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = Encoder::begin(tables);
    encoder.tree(tree);
    out.extend_from_slice(tree);
    out.extend_from_slice(&encoder.finish().0);
    out
}

/// A part of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The header, first and once.
    Header(Header),
    /// The next packs.
    Packs(Vec<Pack>),
    /// The next chunks.
    Chunks(Vec<Chunk>),
    /// The next bytes of the compressed tree section.
    Tree(Bytes),
}

/// Takes a manifest apart as it comes. Nothing that it yielded is to be trusted before [`Decoder::finish`].
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    hasher: blake3::Hasher,
    header: Option<Header>,
    /// Lengths of the packs, and whether a chunk lies in it.
    packs: Vec<(u32, bool)>,
    seen: std::collections::HashSet<Hash>,
    chunks: u32,
    tree: u64,
}

impl Decoder {
    /// Takes in bytes and answers the parts that became whole. Keeps a few bytes for each pack, none for chunks.
    ///
    /// # Errors
    /// On damage; the decoder is of no use after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, SnapshotError> {
        self.buffer.extend_from_slice(bytes);
        let mut parts = Vec::new();
        let header = match self.header {
            Some(header) => header,
            None if self.buffer.len() < HEADER => return Ok(parts),
            None => {
                let header = Header::decode(&self.take(HEADER))?;
                self.header = Some(header);
                parts.push(Part::Header(header));
                header
            }
        };
        let packs = self.records(Pack::SIZE, header.packs as usize - self.packs.len());
        if !packs.is_empty() {
            parts.push(Part::Packs(self.read_packs(&packs)?));
        }
        if self.packs.len() < header.packs as usize {
            return Ok(parts);
        }
        let chunks = self.records(Chunk::SIZE, (header.chunks - self.chunks) as usize);
        if !chunks.is_empty() {
            parts.push(Part::Chunks(self.read_chunks(&chunks)?));
        }
        if self.chunks < header.chunks {
            return Ok(parts);
        }
        if self.tree == 0 && self.packs.iter().any(|(_, used)| !used) {
            return corrupt("the manifest names a pack that it does not use");
        }
        let left = usize::try_from(header.tree_stored - self.tree).unwrap_or(usize::MAX);
        let tree = self.take(left.min(self.buffer.len()));
        if !tree.is_empty() {
            self.tree += tree.len() as u64;
            parts.push(Part::Tree(tree));
        }
        if self.tree == header.tree_stored && self.buffer.len() > TRAILER {
            return corrupt("bytes after the manifest");
        }
        Ok(parts)
    }

    /// The header, where the manifest was whole and undamaged (its tree section has checks of its own).
    ///
    /// # Errors
    /// On damage.
    pub fn finish(self) -> Result<Header, SnapshotError> {
        match self.header {
            Some(header) if self.tree == header.tree_stored && self.buffer.len() == TRAILER => {
                if self.hasher.finalize().as_bytes()[..] == self.buffer[..] {
                    Ok(header)
                } else {
                    corrupt("the manifest's digest does not match")
                }
            }
            _ => corrupt("the manifest is cut off"),
        }
    }

    fn take(&mut self, length: usize) -> Bytes {
        let taken = self.buffer.split_to(length).freeze();
        self.hasher.update(&taken);
        taken
    }

    /// As many whole records as are there, at most `most`.
    fn records(&mut self, size: usize, most: usize) -> Bytes {
        self.take((self.buffer.len() / size).min(most) * size)
    }

    fn read_packs(&mut self, mut bytes: &[u8]) -> Result<Vec<Pack>, SnapshotError> {
        let mut packs = Vec::with_capacity(bytes.len() / Pack::SIZE);
        while let Some(pack) = Pack::take(&mut bytes) {
            check_pack(&pack)?;
            if !self.seen.insert(pack.hash) {
                return corrupt("the manifest names a pack twice");
            }
            self.packs.push((pack.length, false));
            packs.push(pack);
        }
        Ok(packs)
    }

    fn read_chunks(&mut self, mut bytes: &[u8]) -> Result<Vec<Chunk>, SnapshotError> {
        let mut chunks = Vec::with_capacity(bytes.len() / Chunk::SIZE);
        while bytes.has_remaining() {
            let Some(chunk) = Chunk::take(&mut bytes) else { return corrupt("the manifest is cut off") };
            let Some((length, used)) = self.packs.get_mut(chunk.pack as usize) else {
                return corrupt("a chunk lies in a pack that the manifest does not name");
            };
            check_range(*length, chunk.offset, chunk.stored, chunk.plain)?;
            *used = true;
            self.chunks += 1;
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

/// Reads a manifest that is in memory: its tables, and its compressed tree section.
///
/// # Errors
/// On damage.
pub fn decode(bytes: &[u8]) -> Result<(Tables, Bytes), SnapshotError> {
    let mut decoder = Decoder::default();
    let (mut packs, mut chunks, mut tree) = (Vec::new(), Vec::new(), BytesMut::new());
    for part in decoder.push(bytes)? {
        match part {
            Part::Header(_) => {}
            Part::Packs(more) => packs.extend(more),
            Part::Chunks(more) => chunks.extend(more),
            Part::Tree(more) => tree.extend_from_slice(&more),
        }
    }
    let header = decoder.finish()?;
    Ok((Tables { header, packs, chunks }, tree.freeze()))
}
