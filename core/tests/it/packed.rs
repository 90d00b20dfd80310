//! Test double of format 2: trees of texts, whose chunks are whole files and whose frames are their plain bytes. It keeps
//! to the wire format in everything that the control plane can see, and believes nothing it is told on a restore.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::manifest::{self, Header, Tables};
use burstflare_ports::wire::snapshot::stream::{self, Decoder, Order, Part};
use burstflare_ports::wire::snapshot::tree::{Body, Encoder, Entry, Extent, File, Reader};
use burstflare_ports::wire::snapshot::{Chunk, FORMAT, Hash, Have, Index, Missing, Pack, Packed, Scanned};
use burstflare_ports::wire::tree::{Digest, Summary};
use bytes::Bytes;
use std::sync::Arc;

/// Path to text.
pub(crate) type Files = BTreeMap<String, String>;

/// Chunks in a pack: few, so that there are several packs.
const TOGETHER: usize = 2;
const ROOT: &str = "workspace";

/// A scan that was kept.
#[derive(Clone)]
pub(crate) struct Scan {
    pub(crate) name: String,
    files: Files,
    parent: Option<Tables>,
    disk: String,
}

/// The entries of a tree in order, without where their chunks lie.
fn entries(files: &Files) -> Vec<(Vec<u8>, Option<&str>)> {
    let mut paths: BTreeMap<Vec<u8>, Option<&str>> = BTreeMap::from([(ROOT.into(), None)]);
    for (path, text) in files {
        let path = format!("{ROOT}/{path}");
        for (place, _) in path.match_indices('/') {
            paths.insert(path[..place].into(), None);
        }
        paths.insert(path.clone().into(), Some(text));
    }
    paths.into_iter().collect()
}

fn entry(path: &[u8], text: Option<&str>, extents: Vec<Extent>) -> Entry {
    let body = text.map_or(Body::Folder, |text| {
        let (size, hash) = (text.len() as u64, Hash::of(text.as_bytes()));
        Body::File(File { size, hash, extents, group: None, ctime_ns: 1, inode: 1 })
    });
    Entry { path: path.to_vec(), mode: if text.is_some() { 0o644 } else { 0o755 }, mtime_ns: 0, body }
}

/// What a tree is, in format 2.
pub(crate) fn summary(files: &Files) -> Summary {
    let mut digest = Digest::default();
    for (path, text) in entries(files) {
        entry(&path, text, Vec::new()).digest(&mut digest);
    }
    Summary { format: FORMAT, ..digest.summary() }
}

/// Scans on top of a parent's manifest. `None` where that is damaged.
pub(crate) fn scan(name: &str, disk: &str, files: &Files, parent: &[u8]) -> Option<(Scan, Vec<Bytes>)> {
    let parent = if parent.is_empty() { None } else { Some(manifest::decode(parent).ok()?.0) };
    let held: BTreeSet<Hash> =
        parent.iter().flat_map(|tables| tables.chunks.iter().map(|chunk| chunk.hash)).collect();
    let mut seen = BTreeSet::new();
    let mut frames = Vec::new();
    for text in files.values().filter(|text| !text.is_empty()) {
        let hash = Hash::of(text.as_bytes());
        if !held.contains(&hash) && seen.insert(hash) {
            let mut record = Vec::new();
            Missing { hash, plain: u32::try_from(text.len()).unwrap() }.encode(&mut record);
            frames.push(frame::encode(&record.into()));
        }
    }
    let scanned = Scanned { scan: name.to_owned(), new_chunks: seen.len() as u64, ..Scanned::default() };
    frames.push(frame::encode_trailer(&serde_json::to_vec(&scanned).unwrap()));
    let scan = Scan { name: name.to_owned(), files: files.clone(), parent, disk: disk.to_owned() };
    Some((scan, frames))
}

/// Where a chunk lies.
#[derive(Clone, Copy)]
struct Place {
    pack: Pack,
    offset: u32,
    stored: u32,
    plain: u32,
}

/// What a scan found and the asker lacks, in pieces of a stream.
pub(crate) fn pack(scan: &Scan, have: &[u8]) -> Vec<Bytes> {
    let mut places: HashMap<Hash, Place> = HashMap::new();
    for chunk in scan.parent.iter().flat_map(|tables| &tables.chunks) {
        let pack = scan.parent.as_ref().unwrap().packs[chunk.pack as usize];
        let Chunk { offset, stored, plain, .. } = *chunk;
        places.insert(chunk.hash, Place { pack, offset, stored, plain });
    }
    for record in have.as_chunks::<{ Have::SIZE }>().0 {
        let Have { hash, pack, offset, stored, plain } = Have::decode(record).unwrap();
        places.insert(hash, Place { pack, offset, stored, plain });
    }
    let mut new = BTreeMap::new();
    for text in scan.files.values().filter(|text| !text.is_empty()) {
        if !places.contains_key(&Hash::of(text.as_bytes())) {
            new.insert(Hash::of(text.as_bytes()), text);
        }
    }
    let mut pieces = Vec::new();
    let new: Vec<_> = new.into_iter().collect();
    for group in new.chunks(TOGETHER) {
        let bytes: Vec<u8> = group.iter().flat_map(|(_, text)| text.bytes()).collect();
        let pack = Pack { hash: Hash::of(&bytes), length: u32::try_from(bytes.len()).unwrap() };
        let mut chunks = Vec::new();
        let mut offset = 0;
        for (hash, text) in group {
            let length = u32::try_from(text.len()).unwrap();
            chunks.push(Chunk { hash: *hash, pack: 0, offset, stored: length, plain: length });
            places.insert(*hash, Place { pack, offset, stored: length, plain: length });
            offset += length;
        }
        pieces.push(stream::begin(&pack));
        pieces.push(stream::bytes(&bytes));
        pieces.push(stream::end(&Index { pack, chunks }.encode()));
    }
    let packs = (pieces.len() / 3) as u64;
    let manifest = manifest_of(scan, &places);
    let mut summary = summary(&scan.files);
    summary.archive_blake3 = Some(blake3::hash(&manifest).to_hex().to_string());
    let cut = manifest.len() / 2;
    pieces.extend([stream::manifest(&manifest[..cut]), stream::manifest(&manifest[cut..])]);
    let packed = Packed {
        summary,
        packs,
        stored_bytes: 0,
        changed: burstflare_ports::wire::snapshot::Changed::default(),
    };
    pieces.push(frame::encode_trailer(&serde_json::to_vec(&packed).unwrap()));
    pieces
}

fn manifest_of(scan: &Scan, places: &HashMap<Hash, Place>) -> Vec<u8> {
    let (mut packs, mut chunks): (Vec<Pack>, Vec<Chunk>) = (Vec::new(), Vec::new());
    let mut numbers: HashMap<Hash, u32> = HashMap::new();
    let mut tree = Encoder::new(&[format!("/{ROOT}")]);
    for (path, text) in entries(&scan.files) {
        let mut extents = Vec::new();
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            let hash = Hash::of(text.as_bytes());
            let number = *numbers.entry(hash).or_insert_with(|| {
                let Place { pack, offset, stored, plain } = places[&hash];
                let at = packs.iter().position(|known| *known == pack).unwrap_or_else(|| {
                    packs.push(pack);
                    packs.len() - 1
                });
                chunks.push(Chunk { hash, pack: u32::try_from(at).unwrap(), offset, stored, plain });
                u32::try_from(chunks.len() - 1).unwrap()
            });
            extents.push(Extent::Chunk(number));
        }
        tree.add(&entry(&path, text, extents));
    }
    let plain = tree.take();
    let stored = zstd::encode_all(&plain[..], 1).unwrap();
    let summary = summary(&scan.files);
    let header = Header {
        packs: u32::try_from(packs.len()).unwrap(),
        chunks: u32::try_from(chunks.len()).unwrap(),
        entries: summary.files,
        bytes: summary.bytes,
        tree_stored: stored.len() as u64,
        tree_plain: plain.len() as u64,
        began_ns: 0,
        disk: Hash::of(scan.disk.as_bytes()),
        digest: summary.digest.parse().unwrap(),
    };
    manifest::encode(&Tables { header, packs, chunks }, &stored)
}

/// The files of a manifest, whose packs `pack` answers. `None` where anything is missing or damaged.
pub(crate) fn unpacked(manifest: &[u8], pack: impl Fn(&Pack) -> Option<Vec<u8>>) -> Option<Files> {
    let (tables, tree) = manifest::decode(manifest).ok()?;
    let mut packs = Vec::new();
    for named in &tables.packs {
        let bytes = pack(named)?;
        let whole = bytes.len() == named.length as usize && Hash::of(&bytes) == named.hash;
        packs.push(whole.then_some(bytes)?);
    }
    let plain = zstd::decode_all(&tree[..]).ok()?;
    let tables = Arc::new(tables);
    let mut reader = Reader::new(&plain[..], Arc::clone(&tables)).ok()?;
    let mut files = Files::new();
    while let Some(entry) = reader.next().ok()? {
        let Body::File(file) = entry.body else { continue };
        let mut bytes = Vec::new();
        for extent in file.extents {
            let Extent::Chunk(number) = extent else { return None };
            let chunk = tables.chunks[number as usize];
            let (begin, end) = (chunk.offset as usize, (chunk.offset + chunk.stored) as usize);
            let part = packs.get(chunk.pack as usize)?.get(begin..end)?;
            (Hash::of(part) == chunk.hash).then_some(())?;
            bytes.extend_from_slice(part);
        }
        let path = String::from_utf8(entry.path).ok()?;
        files.insert(path.strip_prefix(&format!("{ROOT}/"))?.to_owned(), String::from_utf8(bytes).ok()?);
    }
    (summary(&files).digest == tables.header.digest.to_string()).then_some(files)
}

/// The files of a stream to a machine. `None` where it is damaged or cut off.
pub(crate) fn restored(body: &[u8]) -> Option<Files> {
    let mut decoder = Decoder::new(Order::ManifestFirst);
    let (mut manifest, mut packs, mut bytes) = (Vec::new(), HashMap::new(), Vec::new());
    for part in decoder.push(body).ok()? {
        match part {
            Part::PackBegin(_) => bytes.clear(),
            Part::PackBytes(more) => bytes.extend_from_slice(&more),
            Part::PackEnd { pack, .. } => drop(packs.insert(pack.hash, bytes.clone())),
            Part::Manifest(more) => manifest.extend_from_slice(&more),
        }
    }
    decoder.finish().ok()?;
    unpacked(&manifest, |pack| packs.get(&pack.hash).cloned())
}

#[test]
fn what_is_packed_comes_back() {
    let files: Files = [("a", "one"), ("b/c", "two"), ("b/d", ""), ("e", "one"), ("f", "three")]
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .collect();
    let (scan, _) = scan("1", "d", &files, &[]).unwrap();
    let mut decoder = Decoder::new(Order::PacksFirst);
    let (mut manifest, mut packs, mut bytes) = (Vec::new(), HashMap::new(), Vec::new());
    for piece in pack(&scan, &[]) {
        for part in decoder.push(&piece).unwrap() {
            match part {
                Part::PackBegin(_) => bytes.clear(),
                Part::PackBytes(more) => bytes.extend_from_slice(&more),
                Part::PackEnd { pack, .. } => drop(packs.insert(pack.hash, bytes.clone())),
                Part::Manifest(more) => manifest.extend_from_slice(&more),
            }
        }
    }
    decoder.finish().unwrap();
    assert_eq!(packs.len(), 2);
    assert_eq!(unpacked(&manifest, |pack| packs.get(&pack.hash).cloned()), Some(files));
    assert_eq!(unpacked(&manifest, |_| None), None);
}
