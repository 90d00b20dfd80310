//! Golden fixtures, and what no reader of the format may accept.

use std::sync::Arc;

use proptest::prelude::*;

use super::manifest::{Header, Tables};
use super::stream::{Order, Part};
use super::tree::{Body, Encoder, Entry, Extent, File, Reader};
use super::*;
use crate::wire::frame;
use crate::wire::tree::Digest;

fn pack(content: &[u8]) -> Pack {
    Pack { hash: Hash::of(content), length: u32::try_from(content.len()).expect("short") }
}

fn file(size: u64, hash: Hash, extents: Vec<Extent>, group: Option<u32>) -> Body {
    Body::File(File { size, hash, extents, group, ctime_ns: 1_700_000_000_000_000_007, inode: 42 })
}

fn entry(path: &[u8], mode: u32, body: Body) -> Entry {
    Entry { path: path.to_vec(), mode, mtime_ns: 1_700_000_000_123_456_789, body }
}

/// One of everything: two packs, three chunks.
fn sample() -> (Tables, Vec<u8>, Vec<Entry>) {
    let (one, two) = (b"frame of abc|frame of defg", b"frame of hi");
    let chunks = vec![
        Chunk { hash: Hash::of(b"abc"), pack: 0, offset: 0, stored: 12, plain: 3 },
        Chunk { hash: Hash::of(b"defg"), pack: 0, offset: 13, stored: 13, plain: 4 },
        Chunk { hash: Hash::of(b"hi"), pack: 1, offset: 0, stored: 11, plain: 2 },
    ];
    let two_parts = vec![Extent::Chunk(1), Extent::Hole(4096), Extent::Chunk(0)];
    let large = vec![Extent::Hole(MAX_HASHED_HOLES + 1), Extent::Chunk(2)];
    let holey = tree::holey_hash(MAX_HASHED_HOLES + 3, [Err(MAX_HASHED_HOLES + 1), Ok(chunks[2].hash)]);
    let entries = vec![
        entry(b"home/flare", 0o755, Body::Folder),
        entry(b"home/flare/a", 0o640, file(3, chunks[0].hash, vec![Extent::Chunk(0)], Some(0))),
        entry(b"workspace", 0o1777, Body::Folder),
        entry(b"workspace/100%\xff", 0o640, Body::Name { group: 0, size: 3, hash: chunks[0].hash }),
        entry(b"workspace/d", 0o500, Body::Folder),
        entry(b"workspace/d-e", 0o600, file(4103, Hash::of(b"all of it"), two_parts, None)),
        entry(b"workspace/d/x", 0o777, Body::Link(b"../\xfe".to_vec())),
        entry(b"workspace/empty", 0o644, file(0, Hash::of(b""), vec![], None)),
        entry(b"workspace/large", 0o644, file(MAX_HASHED_HOLES + 3, holey, large, None)),
        entry(b"workspace/pipe", 0o600, Body::Pipe),
    ];
    let (tree, digest) = encode_tree(&["/workspace", "/home/flare"], &entries);
    let header = Header {
        packs: 2,
        chunks: 3,
        entries: 10,
        bytes: entries.iter().map(Entry::size).sum(),
        tree_stored: tree.len() as u64,
        tree_plain: tree.len() as u64,
        began_ns: 1_700_000_001_000_000_000,
        disk: Hash::of(b"ses_1.3"),
        digest,
    };
    (Tables { header, packs: vec![pack(one), pack(two)], chunks }, tree, entries)
}

fn encode_tree(roots: &[&str], entries: &[Entry]) -> (Vec<u8>, Hash) {
    let mut encoder = Encoder::new(&roots.iter().map(ToString::to_string).collect::<Vec<_>>());
    let mut digest = Digest::default();
    for entry in entries {
        encoder.add(entry);
        entry.digest(&mut digest);
    }
    (encoder.take(), digest.summary().digest.parse().expect("a hash"))
}

fn read(tables: &Tables, tree: &[u8]) -> Result<Vec<Entry>, SnapshotError> {
    let mut reader = Reader::new(tree, Arc::new(tables.clone()))?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        entries.push(entry);
    }
    assert_eq!(reader.summary(), tables.header.summary());
    Ok(entries)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Against the fixture; `UPDATE_GOLDEN=1` writes it.
#[track_caller]
fn golden(name: &str, bytes: &[u8]) {
    let path = format!("{}/src/wire/snapshot/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, hex(bytes) + "\n").expect("writes");
    }
    assert_eq!(hex(bytes), std::fs::read_to_string(&path).expect("reads").trim());
}

#[test]
fn golden_manifest_and_tree() {
    let (tables, tree, entries) = sample();
    golden("tree", &tree);
    let bytes = manifest::encode(&tables, &tree);
    golden("manifest", &bytes);
    let (decoded, section) = manifest::decode(&bytes).expect("decodes");
    assert_eq!((&decoded, &section[..]), (&tables, &tree[..]));
    assert_eq!(read(&decoded, &section).expect("reads"), entries);
    assert_eq!(
        serde_json::to_string(&tables.header.summary()).expect("serialises"),
        r#"{"format":2,"digest":"d","files":10,"bytes":8589938704}"#
            .replace(r#""d""#, &format!("\"{}\"", tables.header.digest))
    );
}

#[test]
fn golden_records_and_trailers() {
    let have = Have {
        hash: Hash([1; 32]),
        pack: Pack { hash: Hash([2; 32]), length: 9 },
        offset: 3,
        stored: 4,
        plain: 5,
    };
    let mut out = Vec::new();
    have.encode(&mut out);
    assert_eq!(hex(&out), format!("{}{}09000000030000000400000005000000", "01".repeat(32), "02".repeat(32)));
    assert_eq!(Have::decode(out.first_chunk().expect("80 bytes")), Ok(have));
    let missing = Missing { hash: Hash([3; 32]), plain: 7 };
    let mut out = Vec::new();
    missing.encode(&mut out);
    assert_eq!(hex(&out), format!("{}07000000", "03".repeat(32)));
    assert_eq!(Missing::decode_all(&out), Ok(vec![missing]));
    assert!(Missing::decode_all(&out[1..]).is_err() && Missing::decode_all(&[0; 36]).is_err());
    for (field, value) in
        [(64, 0), (64, MAX_PACK + 1), (68, 6), (72, 0), (72, u32::MAX), (76, 0), (76, MAX_CHUNK + 1)]
    {
        let mut out = Vec::new();
        have.encode(&mut out);
        out[field..field + 4].copy_from_slice(&value.to_le_bytes());
        assert!(Have::decode(out.first_chunk().expect("80 bytes")).is_err(), "{field}: {value}");
    }
    let scanned = Scanned { scan: "1-2".into(), entries: 5, files: 3, ..Scanned::default() };
    assert_eq!(
        serde_json::to_string(&scanned).expect("serialises"),
        r#"{"scan":"1-2","entries":5,"files":3,"bytes":0,"digest":"","reused_files":0,"read_files":0,"read_bytes":0,"new_chunks":0,"new_bytes":0,"changed":{"files":0,"torn":0,"paths":[]}}"#
    );
    assert_eq!(
        serde_json::to_string(&Hash([0xab; 32])).expect("serialises"),
        format!("\"{}\"", "ab".repeat(32))
    );
    assert!("AB".repeat(32).parse::<Hash>().is_err() && "ab".parse::<Hash>().is_err());
}

#[test]
fn golden_index() {
    let index = Index {
        pack: Pack { hash: Hash([9; 32]), length: 30 },
        chunks: vec![
            Chunk { hash: Hash([1; 32]), pack: 0, offset: 0, stored: 10, plain: 3 },
            Chunk { hash: Hash([2; 32]), pack: 0, offset: 10, stored: 20, plain: 4 },
        ],
    };
    let bytes = index.encode();
    golden("index", &bytes);
    assert_eq!(Index::decode(&bytes), Ok(index.clone()));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(Index::decode(&flipped).is_err(), "flip at {at}");
        assert!(Index::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    for change in [
        |index: &mut Index| index.chunks[1].offset = 11,
        |index: &mut Index| index.chunks[1].stored = 19,
        |index: &mut Index| index.chunks[1].stored = u32::MAX,
        |index: &mut Index| index.chunks.clear(),
        |index: &mut Index| index.pack.length = MAX_PACK + 1,
        |index: &mut Index| index.chunks[0].plain = 0,
    ] {
        let mut wrong = index.clone();
        change(&mut wrong);
        assert!(Index::decode(&wrong.encode()).is_err(), "{wrong:?}");
    }
    let most = Index { pack: index.pack, chunks: vec![index.chunks[0]; MAX_PACK_CHUNKS] };
    assert!(most.encode().len() == Index::LIMIT && Index::LIMIT < frame::LIMIT);
}

#[test]
fn every_damage_of_a_manifest_is_found() {
    let (tables, tree, _) = sample();
    let bytes = manifest::encode(&tables, &tree);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(manifest::decode(&flipped).is_err(), "flip of bit {bit} at {at}");
        }
        assert!(manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(manifest::decode(&[&bytes[..], b"x"].concat()).is_err());
    let mut later = bytes;
    later[8] = 3;
    assert_eq!(manifest::decode(&later), Err(SnapshotError::Unsupported(3)));
}

/// What a trailer does not tell: the manifest was made so.
#[test]
fn tables_that_lie_are_refused() {
    let (tables, tree, _) = sample();
    for (what, change) in [
        ("pack twice", (|tables| tables.packs[1] = tables.packs[0]) as fn(&mut Tables)),
        ("empty pack", |tables| tables.packs[1].length = 0),
        ("large pack", |tables| tables.packs[1].length = MAX_PACK + 1),
        ("unused pack", |tables| tables.chunks[2].pack = 0),
        ("no such pack", |tables| tables.chunks[2].pack = 2),
        ("beyond its pack", |tables| tables.chunks[2].offset = 1),
        ("overflow", |tables| tables.chunks[2].offset = u32::MAX),
        ("empty chunk", |tables| tables.chunks[2].plain = 0),
        ("large chunk", |tables| tables.chunks[2].plain = MAX_CHUNK + 1),
        ("nothing stored", |tables| tables.chunks[2].stored = 0),
        ("packs", |tables| tables.header.packs = MAX_PACKS + 1),
        ("chunks", |tables| tables.header.chunks = MAX_CHUNKS + 1),
        ("entries", |tables| tables.header.entries = MAX_ENTRIES + 1),
        ("no entries", |tables| tables.header.entries = 0),
        ("tree", |tables| tables.header.tree_stored = MAX_TREE_STORED + 1),
        ("plain tree", |tables| tables.header.tree_plain = MAX_TREE_PLAIN + 1),
    ] {
        let mut lie = tables.clone();
        change(&mut lie);
        assert!(manifest::decode(&manifest::encode(&lie, &tree)).is_err(), "{what}");
    }
}

#[test]
fn trees_that_lie_are_refused() {
    let (tables, _, entries) = sample();
    type Change = fn(&mut Vec<Entry>);
    let changes: [(&str, Change); 22] = [
        ("parent", |all| all[6].path = b"workspace/d/../x".to_vec()),
        ("dot", |all| all[7].path = b"workspace/.".to_vec()),
        ("absolute", |all| all[7].path = b"/etc/passwd".to_vec()),
        ("empty name", |all| all[7].path = b"workspace/".to_vec()),
        ("double slash", |all| all[6].path = b"workspace/d//x".to_vec()),
        ("NUL", |all| all[7].path = b"workspace/e\0".to_vec()),
        ("long name", |all| all[9].path.extend([b'x'; 256])),
        ("no such folder", |all| all[6].path = b"workspace/d0/x".to_vec()),
        ("below a file", |all| all[6].path = b"workspace/d-e/x".to_vec()),
        ("below a link", |all| all[7].path = b"workspace/d/x/y".to_vec()),
        ("outside", |all| all[0].path = b"etc".to_vec()),
        ("above", |all| all[0].path = b"home".to_vec()),
        ("root is a pipe", |all| all[2].body = Body::Pipe),
        ("mode", |all| all[1].mode = 0o4755),
        ("order", |all| all.swap(7, 8)),
        ("twice", |all| all[8].path = all[7].path.clone()),
        ("empty target", |all| all[6].body = Body::Link(vec![])),
        ("long target", |all| all[6].body = Body::Link(vec![b'x'; MAX_TARGET + 1])),
        ("group", |all| all[3].body = Body::Name { group: 1, size: 3, hash: Hash::default() }),
        ("size", |all| set(&mut all[1], |file| file.size = 4)),
        ("empty hole", |all| set(&mut all[5], |file| file.extents.push(Extent::Hole(0)))),
        ("holes meet", |all| {
            set(&mut all[5], |file| {
                file.extents[1] = Extent::Hole(4000);
                file.extents.insert(1, Extent::Hole(96));
            });
        }),
    ];
    for (what, change) in changes {
        let mut lie = entries.clone();
        change(&mut lie);
        let (tree, digest) = encode_tree(&["/workspace", "/home/flare"], &lie);
        assert!(read(&describe(&tables, &lie, &tree, digest), &tree).is_err(), "{what}");
    }
    for roots in [
        &["/workspace"][..],
        &["/workspace", "/home/flare", "/more"],
        &["/workspace", "/home/flare", "/home/flare/x"],
        &["/workspace", "/home/flare", "/workspace"],
        &["/workspace", "/home/../flare"],
        &["workspace", "/home/flare"],
        &[],
    ] {
        let (tree, digest) = encode_tree(roots, &entries);
        assert!(read(&describe(&tables, &entries, &tree, digest), &tree).is_err(), "{roots:?}");
    }
}

fn set(entry: &mut Entry, change: impl FnOnce(&mut File)) {
    match &mut entry.body {
        Body::File(file) => change(file),
        other => panic!("not a file: {other:?}"),
    }
}

fn describe(tables: &Tables, entries: &[Entry], tree: &[u8], digest: Hash) -> Tables {
    let mut tables = tables.clone();
    tables.header.entries = entries.len() as u64;
    tables.header.bytes = entries.iter().map(Entry::size).sum();
    tables.header.tree_plain = tree.len() as u64;
    tables.header.tree_stored = tree.len() as u64;
    tables.header.digest = digest;
    tables
}

/// The section's own checks find almost all damage; the manifest's trailer the rest, so a reader must at least stop.
#[test]
fn damaged_trees_end_in_an_error_or_in_another_tree() {
    let (tables, tree, entries) = sample();
    for at in 0..tree.len() {
        for bit in 0..8 {
            let mut flipped = tree.clone();
            flipped[at] ^= 1 << bit;
            // Times, inodes and group numbers are not in the digest.
            assert!(
                read(&tables, &flipped).is_err_and(|_| true)
                    || read(&tables, &flipped) != Ok(entries.clone())
            );
        }
        assert!(read(&tables, &tree[..at]).is_err(), "cut at {at}");
    }
    assert!(read(&tables, &[&tree[..], b"x"].concat()).is_err());
    for change in [
        |header: &mut Header| header.entries -= 1,
        |header: &mut Header| header.bytes += 1,
        |header: &mut Header| header.tree_plain -= 1,
        |header: &mut Header| header.tree_plain += 1,
        |header: &mut Header| header.digest = Hash::default(),
    ] {
        let mut lie = tables.clone();
        change(&mut lie.header);
        assert!(read(&lie, &tree).is_err(), "{:?}", lie.header);
    }
    let mut unnamed = tables;
    unnamed.header.chunks += 1;
    unnamed.chunks.push(unnamed.chunks[0]);
    assert!(read(&unnamed, &tree).is_err());
}

fn stream_out(order: Order) -> (Vec<u8>, Vec<u8>) {
    let (tables, tree, _) = sample();
    let manifest = manifest::encode(&tables, &tree);
    let mut packs = Vec::new();
    for content in [&b"frame of abc|frame of defg"[..], b"frame of hi"] {
        let pack = pack(content);
        packs.extend_from_slice(&stream::begin(&pack));
        packs.extend_from_slice(&stream::bytes(&content[..5]));
        packs.extend_from_slice(&stream::bytes(&content[5..]));
        let chunk = Chunk { hash: Hash([1; 32]), pack: 0, offset: 0, stored: pack.length, plain: 3 };
        let index = Index { pack, chunks: vec![chunk] }.encode();
        packs.extend_from_slice(&stream::end(if order == Order::PacksFirst { &index } else { b"" }));
    }
    let middle = stream::manifest(&manifest);
    let end = frame::encode_trailer(b"{}");
    let parts = match order {
        Order::PacksFirst => [&packs[..], &middle, &end],
        Order::ManifestFirst => [&middle[..], &packs, &end],
    };
    (parts.concat(), manifest)
}

fn take_apart(order: Order, bytes: &[u8], step: usize) -> Result<(Vec<Part>, bytes::Bytes), SnapshotError> {
    let mut decoder = stream::Decoder::new(order);
    let mut parts = Vec::new();
    for piece in bytes.chunks(step) {
        parts.extend(decoder.push(piece)?);
    }
    Ok((parts, decoder.finish()?))
}

#[test]
fn streams_come_apart_in_any_pieces_and_every_damage_is_found() {
    for order in [Order::PacksFirst, Order::ManifestFirst] {
        let (bytes, manifest) = stream_out(order);
        for step in [1, 7, 100, bytes.len()] {
            let (parts, trailer) = take_apart(order, &bytes, step).expect("well formed");
            assert_eq!(trailer, "{}");
            let found: Vec<u8> = parts
                .iter()
                .filter_map(|part| if let Part::Manifest(bytes) = part { Some(bytes.to_vec()) } else { None })
                .flatten()
                .collect();
            assert_eq!(found, manifest);
            let ends = parts.iter().filter(|part| matches!(part, Part::PackEnd { .. })).count();
            assert_eq!(ends, 2);
        }
        for at in 0..bytes.len() {
            assert!(take_apart(order, &bytes[..at], 64).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            // The manifest has a trailer of its own, the frames' trailer is its reader's to check.
            let unseen = take_apart(order, &flipped, 64).is_ok_and(|(parts, trailer)| {
                let same = |part: &Part| !matches!(part, Part::Manifest(bytes) if !window(&manifest, bytes));
                parts.iter().all(same) && trailer == "{}"
            });
            assert!(!unseen, "flip at {at}");
        }
        let other = if order == Order::PacksFirst { Order::ManifestFirst } else { Order::PacksFirst };
        assert!(take_apart(other, &bytes, 64).is_err(), "{order:?}");
    }
    assert!(take_apart(Order::PacksFirst, &frame::encode_trailer(b"{}"), 64).is_err(), "no manifest");
}

fn window(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

proptest! {
    #[test]
    fn trees_come_back(nodes in prop::collection::btree_map("[a-c!.-]{1,3}(/[a-c!-]{1,3}){0,3}", 0..6u8, 0..40), times: (i64, i64)) {
        let chunks: Vec<Chunk> = (0..60u32)
            .map(|number| Chunk { hash: Hash::of(&number.to_le_bytes()), pack: 0, offset: number, stored: 1, plain: 10 })
            .collect();
        let mut entries = vec![Entry { path: b"r".to_vec(), mode: 0o755, mtime_ns: times.0, body: Body::Folder }];
        let (mut fresh, mut groups) = (0, Vec::new());
        let mut folders = vec!["r".to_owned()];
        for (name, what) in nodes {
            let path = format!("r/{name}");
            if path.split('/').any(|part| part == "." || part == "..") {
                continue;
            }
            let parent = path.rsplit_once('/').expect("has one").0;
            if !folders.iter().any(|folder| folder == parent) {
                continue;
            }
            let hash_of = |number: u32| chunks[number as usize].hash;
            let file = |size, hash, extents, group| Body::File(File { size, hash, extents, group, ctime_ns: times.1, inode: u64::from(what) << 40 });
            let body = match what {
                0 | 1 => { folders.push(path.clone()); Body::Folder }
                2 => { fresh += 1; groups.push(hash_of(fresh - 1)); file(10, hash_of(fresh - 1), vec![Extent::Chunk(fresh - 1)], Some(u32::try_from(groups.len()).expect("few") - 1)) }
                3 if fresh > 0 => { fresh += 1; file(30, Hash([7; 32]), vec![Extent::Chunk(fresh - 1), Extent::Hole(10), Extent::Chunk(0)], None) }
                4 if !groups.is_empty() => Body::Name { group: 0, size: 10, hash: groups[0] },
                _ => Body::Link(name.clone().into_bytes()),
            };
            let mtime_ns = if what == 4 { times.0 } else { times.1.wrapping_add(i64::from(what)) };
            entries.push(Entry { path: path.into_bytes(), mode: 0o600, mtime_ns, body });
        }
        for entry in &mut entries {
            if matches!(entry.body, Body::File(File { group: Some(0), .. })) {
                entry.mtime_ns = times.0;
            }
        }
        let (tree, digest) = encode_tree(&["/r"], &entries);
        let header = Header { packs: 1, chunks: fresh, entries: 0, bytes: 0, tree_stored: 1, tree_plain: 0, began_ns: 0, disk: Hash::default(), digest };
        let tables = Tables { header, packs: vec![], chunks: chunks[..fresh as usize].to_vec() };
        let tables = describe(&tables, &entries, &tree, digest);
        prop_assert_eq!(read(&tables, &tree), Ok(entries));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), step in 1..50usize) {
        let (tables, tree, _) = sample();
        let spliced = [&tree[..bytes.len().min(tree.len())], &bytes[..]].concat();
        for section in [&bytes, &spliced] {
            let mut lie = tables.clone();
            lie.header.tree_plain = section.len() as u64;
            let _ = read(&lie, section);
        }
        let _ = manifest::decode(&bytes);
        let _ = Index::decode(&bytes);
        let _ = take_apart(Order::PacksFirst, &bytes, step);
    }
}
