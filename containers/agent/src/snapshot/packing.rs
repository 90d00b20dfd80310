//! The packs: what the edge lacks is read again, compressed and sent, then the manifest of it all.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::manifest::{self, Header, Tables};
use burstflare_ports::wire::snapshot::tree::{Body, Encoder, Entry, Extent};
use burstflare_ports::wire::snapshot::{
    Chunk, Hash, Have, MAX_PACKS, MAX_TREE_PLAIN, MAX_TREE_STORED, Pack, Packed, stream,
};
use burstflare_ports::wire::tree::Digest;
use bytes::Bytes;

use super::content::Cutter;
use super::draft::{Known, Source};
use super::pack::{Packer, Press};
use super::reach::Reach;
use super::scan::{Scan, by_hash};
use super::work::ordered;
use crate::reply::Refused;

/// Plain bytes that one thread compresses before it asks for more.
const BATCH_BYTES: u64 = 1 << 20;
/// And chunks.
const BATCH: usize = 128;
/// Of the manifest's tree.
const LEVEL: i32 = 3;
/// Bytes of the manifest in one piece of the stream.
const PIECE: usize = 512 << 10;

/// A chunk that is to be packed, and where it was seen.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    chunk: u32,
    hash: Hash,
    plain: u32,
    entry: u32,
    offset: u64,
}

/// Makes the packs of what is not in `have`, and the manifest. Pieces of the stream go to `out`.
pub(super) fn pack(
    mut scan: Scan,
    have: &HashMap<Hash, Have>,
    out: &mut dyn FnMut(Bytes) -> io::Result<()>,
) -> Result<Packed, Refused> {
    let mut packer = Packer::new(out);
    let _open = open_shut(&scan)?;
    let lost = pack_known(&mut scan, have, &mut packer)?;
    if !lost.is_empty() {
        read_anew(&mut scan, have, &lost, &mut packer)?;
    }
    packer.close()?;
    let (tables, tree) = finish(&scan, have, &packer.packs)?;
    let hash = send_manifest(&tables, &tree, &mut packer)?;
    let mut summary = tables.header.summary();
    summary.archive_blake3 = Some(hash.to_string());
    let packs = std::mem::take(&mut packer.packs);
    let packed = Packed {
        summary,
        packs: packs.len() as u64,
        stored_bytes: packs.iter().map(|pack| u64::from(pack.length)).sum(),
        changed: scan.draft.changed,
    };
    let trailer = serde_json::to_vec(&packed).map_err(|error| Refused::internal(error.to_string()))?;
    packer.send(frame::encode_trailer(&trailer))?;
    Ok(packed)
}

/// Folders that forbid us to look into them are opened for the while.
fn open_shut(scan: &Scan) -> Result<Vec<crate::folder::Opened>, Refused> {
    let mut reach = Reach::new(&scan.roots)?;
    let mut open = Vec::new();
    for path in &scan.shut {
        open.extend(reach.shut_folder(path)?);
    }
    Ok(open)
}

/// Packs what the scan saw, as long as it is still there. Answers the chunks that are not.
fn pack_known(
    scan: &mut Scan,
    have: &HashMap<Hash, Have>,
    packer: &mut Packer<'_>,
) -> Result<HashSet<u32>, Refused> {
    let draft = &mut scan.draft;
    let wanted: Vec<Wanted> = draft
        .chunks
        .iter()
        .zip(0..)
        .filter(|(known, _)| !have.contains_key(&known.hash))
        .filter_map(|(known, chunk)| match known.source {
            Source::Entry(entry, offset) => {
                Some(Wanted { chunk, hash: known.hash, plain: known.plain, entry, offset })
            }
            _ => None,
        })
        .collect();
    let entries = &draft.entries;
    let roots = &scan.roots;
    let mut places = Vec::with_capacity(wanted.len());
    let mut lost = HashSet::new();
    let tools = || -> io::Result<Tools<'_>> {
        Ok(Tools { reach: Reach::new(roots)?, press: Press::new()?, open: None, buffer: Vec::new() })
    };
    let work = |tools: &mut io::Result<Tools<'_>>, batch: &[Wanted]| {
        let tools = tools.as_mut().map_err(|problem| Refused::internal(problem.to_string()))?;
        batch.iter().map(|wanted| Ok((*wanted, tools.frame(entries, wanted)?))).collect()
    };
    let sink = |frames: Vec<(Wanted, Option<Vec<u8>>)>| -> Result<(), Refused> {
        for (wanted, frame) in frames {
            match frame {
                Some(frame) => places.push((wanted.chunk, packer.add(wanted.hash, wanted.plain, &frame)?)),
                None => {
                    lost.insert(wanted.chunk);
                }
            }
        }
        Ok(())
    };
    ordered(Batches { rest: &wanted }, tools, work, sink)?;
    places.extend(lost.iter().map(|chunk| (*chunk, Source::Lost)));
    for (chunk, source) in places {
        if let Some(known) = draft.chunks.get_mut(chunk as usize) {
            known.source = source;
        }
    }
    Ok(lost)
}

/// What a thread needs to pack chunks.
struct Tools<'r> {
    reach: Reach<'r>,
    press: Press,
    /// The file of the last chunk.
    open: Option<(u32, OwnedFd)>,
    buffer: Vec<u8>,
}

impl Tools<'_> {
    /// The frame of a chunk; `None` where its file holds something else by now.
    fn frame(&mut self, entries: &[Entry], wanted: &Wanted) -> Result<Option<Vec<u8>>, Refused> {
        if self.open.as_ref().is_none_or(|(entry, _)| *entry != wanted.entry) {
            self.open = None;
            let Some(entry) = entries.get(wanted.entry as usize) else { return Ok(None) };
            self.open = self.reach.file(&entry.path)?.map(|file| (wanted.entry, file));
        }
        let Some((_, file)) = &self.open else { return Ok(None) };
        let length = wanted.plain as usize;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let buffer = self.buffer.get_mut(..length).unwrap_or_default();
        let mut end = 0;
        while end < length {
            let space = buffer.get_mut(end..).unwrap_or_default();
            let at = wanted.offset + end as u64;
            match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *space, at))? {
                0 => return Ok(None),
                read => end += read,
            }
        }
        if Hash::of(buffer) != wanted.hash {
            return Ok(None);
        }
        Ok(Some(self.press.frame(buffer)?))
    }
}

struct Batches<'w> {
    rest: &'w [Wanted],
}

impl<'w> Iterator for Batches<'w> {
    type Item = &'w [Wanted];

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = 0;
        let whole = self.rest.iter().take(BATCH).take_while(|wanted| {
            let fits = bytes < BATCH_BYTES;
            bytes += u64::from(wanted.plain);
            fits
        });
        let (batch, rest) = self.rest.split_at_checked(whole.count())?;
        self.rest = rest;
        (!batch.is_empty()).then_some(batch)
    }
}

/// Files that changed since the scan are cut anew, and what is new of them is packed as it is read.
fn read_anew(
    scan: &mut Scan,
    have: &HashMap<Hash, Have>,
    lost: &HashSet<u32>,
    packer: &mut Packer<'_>,
) -> Result<(), Refused> {
    let Scan { draft, parent, roots, .. } = scan;
    let is_lost = |extent: &Extent| matches!(extent, Extent::Chunk(chunk) if lost.contains(chunk));
    let mut wanted: Vec<u32> = draft
        .entries
        .iter()
        .zip(0..)
        .filter(|(entry, _)| matches!(&entry.body, Body::File(file) if file.extents.iter().any(is_lost)))
        .map(|(_, at)| at)
        .collect();
    let parent = by_hash(parent.as_deref());
    let (mut reach, mut cutter, mut press) = (Reach::new(roots)?, Cutter::new(), Press::new()?);
    while let Some(at) = wanted.pop() {
        let Some(entry) = draft.entries.get(at as usize) else { continue };
        let Some(file) = reach.file(&entry.path)? else {
            wanted.extend(draft.lose(at));
            continue;
        };
        // Chunks of attempts that failed are packed for nothing; the next ones may well need them.
        let mut made: HashMap<Hash, Source> = HashMap::new();
        let mut content =
            cutter.read(file.as_fd(), &mut |hash: &Hash, bytes: &[u8]| -> Result<(), Refused> {
                let known = draft.numbers.get(hash).and_then(|number| draft.chunks.get(*number as usize));
                let there = known.is_some_and(|known| known.source != Source::Lost)
                    || parent.contains_key(hash)
                    || have.contains_key(hash)
                    || made.contains_key(hash);
                if !there {
                    let plain = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    made.insert(*hash, packer.add(*hash, plain, &press.frame(bytes)?)?);
                }
                Ok(())
            })?;
        for (hash, source) in &made {
            // Lost elsewhere, found here.
            let known = draft.numbers.get(hash).and_then(|number| draft.chunks.get_mut(*number as usize));
            if let Some(known) = known {
                known.source = *source;
            }
        }
        content.changed = true;
        let again =
            draft.fill(at, &content, &mut |hash, offset| match (made.get(hash), parent.get(hash)) {
                (Some(source), _) => *source,
                (None, Some(number)) => Source::Parent(*number),
                (None, None) => Source::Entry(at, offset),
            })?;
        wanted.extend(again);
    }
    Ok(())
}

/// Tables and compressed tree of everything that is known by now.
fn finish(scan: &Scan, have: &HashMap<Hash, Have>, new: &[Pack]) -> Result<(Tables, Vec<u8>), Refused> {
    let mut digest = Digest::default();
    let mut encoder = Encoder::new(&scan.roots);
    let mut compressor = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    let mut plain = 0;
    let mut hand_on = |encoder: &mut Encoder| {
        let bytes = encoder.take();
        plain += bytes.len() as u64;
        io::Write::write_all(&mut compressor, &bytes)
    };
    let used = scan.draft.show(|entry| {
        entry.digest(&mut digest);
        encoder.add(entry);
        if encoder.pending() > PIECE {
            hand_on(&mut encoder)?;
        }
        Ok(())
    })?;
    hand_on(&mut encoder)?;
    let tree = compressor.finish()?;
    if plain > MAX_TREE_PLAIN || tree.len() as u64 > MAX_TREE_STORED {
        return Err(Refused::too_large("The tree's names are too long together."));
    }
    let mut places = Places { scan, have, new, packs: Vec::new(), numbers: HashMap::new() };
    let chunks = used.iter().map(|known| places.chunk(known)).collect::<Result<Vec<_>, _>>()?;
    let packs = places.packs;
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    if count(packs.len()) > MAX_PACKS {
        return Err(Refused::too_large(format!("The tree lies in more than {MAX_PACKS} packs.")));
    }
    let summary = digest.summary();
    let header = Header {
        packs: count(packs.len()),
        chunks: count(chunks.len()),
        entries: summary.files,
        bytes: summary.bytes,
        tree_stored: tree.len() as u64,
        tree_plain: plain,
        began_ns: scan.began_ns,
        disk: scan.disk,
        digest: summary.digest.parse().map_err(|_| Refused::internal("a digest is malformed"))?,
    };
    Ok((Tables { header, packs, chunks }, tree))
}

/// Numbers packs in the order of their first use.
struct Places<'s> {
    scan: &'s Scan,
    have: &'s HashMap<Hash, Have>,
    new: &'s [Pack],
    packs: Vec<Pack>,
    numbers: HashMap<Hash, u32>,
}

impl Places<'_> {
    fn chunk(&mut self, known: &Known) -> Result<Chunk, Refused> {
        let found = match known.source {
            Source::Parent(number) => self.scan.parent.as_ref().and_then(|parent| {
                let chunk = parent.chunks.get(number as usize)?;
                Some((*parent.packs.get(chunk.pack as usize)?, chunk.offset, chunk.stored))
            }),
            Source::New { pack, offset, stored } => {
                self.new.get(pack as usize).map(|pack| (*pack, offset, stored))
            }
            Source::Entry(..) => self.have.get(&known.hash).map(|have| (have.pack, have.offset, have.stored)),
            Source::Lost => None,
        };
        let Some((pack, offset, stored)) = found else {
            return Err(Refused::internal(format!("the chunk {} lies nowhere", known.hash)));
        };
        let next = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(pack.hash).or_insert_with(|| {
            self.packs.push(pack);
            next
        });
        Ok(Chunk { hash: known.hash, pack: number, offset, stored, plain: known.plain })
    }
}

fn send_manifest(tables: &Tables, tree: &[u8], packer: &mut Packer<'_>) -> Result<Hash, Refused> {
    let (mut encoder, head) = manifest::Encoder::begin(tables);
    encoder.tree(tree);
    let (trailer, hash) = encoder.finish();
    for part in [&head[..], tree, &trailer] {
        for piece in part.chunks(PIECE) {
            packer.send(stream::manifest(piece))?;
        }
    }
    Ok(hash)
}
