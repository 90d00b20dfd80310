//! Snapshots that are damaged, or that lie: found, and the old tree stays.

use std::fs;
use std::os::unix::fs::symlink;

use burstflare_agent::snapshot::measure;
use burstflare_ports::wire::snapshot::tree::{Body, Entry};
use burstflare_ports::wire::snapshot::{Hash, manifest};

use crate::snapshot_place::{Place, Store, assert_same, forge, noise, picture};

fn small(place: &Place) -> (Store, Vec<u8>) {
    fs::create_dir(place.at("d")).unwrap();
    fs::write(place.at("d/file"), "some content").unwrap();
    fs::write(place.at("parts"), "x").unwrap();
    fs::File::options().write(true).open(place.at("parts")).unwrap().set_len(1 << 20).unwrap();
    fs::hard_link(place.at("d/file"), place.at("name")).unwrap();
    symlink("d/file", place.at("link")).unwrap();
    let mut store = Store::default();
    let taken = store.snapshot(&place.names(), b"", None);
    (store, taken.manifest)
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let place = Place::new();
    let (store, manifest) = small(&place);
    let stream = store.stream(&manifest);
    fs::write(place.at("old"), "the old tree").unwrap();
    let now = picture(&place.roots);
    for at in 0..stream.len() {
        let mut flipped = stream.clone();
        flipped[at] ^= 1 << (at % 8);
        let problem = measure::restore(&place.names(), &flipped[..]).err();
        assert!(problem.is_some(), "flip at {at} of {}", stream.len());
        if at % 7 == 0 {
            assert!(measure::restore(&place.names(), &stream[..at]).is_err(), "cut at {at}");
        }
        if at % 50 == 0 {
            assert_same(&picture(&place.roots), &now);
        }
    }
    for at in 0..manifest.len() {
        let mut flipped = manifest.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(measure::scan(&place.names(), &flipped[..], "disk 1", None).is_err(), "parent, flip at {at}");
    }
    assert_same(&picture(&place.roots), &now);
}

/// Damage inside of a pack whose name was made to fit: the chunks' hashes tell.
#[test]
fn a_pack_that_lies_is_found_by_its_chunks() {
    let place = Place::new();
    let (mut store, manifest) = small(&place);
    let now = picture(&place.roots);
    let (tables, section) = manifest::decode(&manifest).unwrap();
    let bytes = store.packs[&tables.packs[0].hash].clone();
    let mut harmless = 0;
    for at in 0..bytes.len() {
        let mut lie = bytes.clone();
        lie[at] ^= 1 << (at % 8);
        let mut tables = tables.clone();
        tables.packs[0].hash = Hash::of(&lie);
        store.packs.insert(tables.packs[0].hash, lie);
        match measure::restore(&place.names(), &store.stream(&manifest::encode(&tables, &section))[..]) {
            // A bit that means nothing to the decompressor: every hash was right.
            Ok(_) => harmless += 1,
            Err(problem) => {
                assert!(
                    problem.to_string().contains(place.at("").to_str().unwrap().trim_start_matches('/')),
                    "{problem}"
                );
            }
        }
        assert_same(&picture(&place.roots), &now);
    }
    assert!(harmless < bytes.len() / 10, "{harmless}");
}

#[test]
fn nothing_leaves_the_roots() {
    let place = Place::new();
    let (store, manifest) = small(&place);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "x").unwrap();
    let now = picture(&place.roots);
    let root = place.roots[0].to_str().unwrap().trim_start_matches('/').as_bytes().to_vec();
    let beyond = outside.path().to_str().unwrap().trim_start_matches('/').as_bytes().to_vec();
    let path = |name: &[u8]| [&root[..], b"/", name].concat();
    let link = |name: &[u8], to: &[u8]| Entry {
        path: path(name),
        mode: 0o777,
        mtime_ns: 0,
        body: Body::Link(to.to_vec()),
    };
    let folder = |path: Vec<u8>| Entry { path, mode: 0o755, mtime_ns: 0, body: Body::Folder };
    let absolute = [b"/", &beyond[..]].concat();
    let tricks: Vec<(&str, Vec<Entry>)> = vec![
        ("parent", vec![folder(path(b".."))]),
        ("parent in the middle", vec![folder(path(b"zz/../../x"))]),
        ("absolute", vec![folder(absolute.clone())]),
        ("another root", vec![folder(beyond.clone())]),
        ("through a link", vec![link(b"z", &absolute), folder(path(b"z/x"))]),
        ("a link and a folder of one name", vec![link(b"z", &absolute), folder(path(b"z"))]),
        ("a NUL", vec![folder(path(b"z\0z"))]),
        ("our own", vec![link(b"z/", b"x")]),
    ];
    for (what, more) in tricks {
        let forged = forge(&manifest, |entries, _| {
            entries.extend(more);
            entries.sort_by(|one, other| one.path.cmp(&other.path));
        });
        let stream = {
            let mut stream = burstflare_ports::wire::snapshot::stream::manifest(&forged).to_vec();
            let honest = store.stream(&manifest);
            let head = burstflare_ports::wire::snapshot::stream::manifest(&manifest).len();
            stream.extend_from_slice(&honest[head..]);
            stream
        };
        let problem = measure::restore(&place.names(), &stream[..]).expect_err(what);
        assert!(problem.to_string().contains("corrupt"), "{what}: {problem}");
        assert_same(&picture(&place.roots), &now);
    }
    // A user's link in the place where the new tree is put together.
    symlink(outside.path(), place.at(".flare-staging")).unwrap();
    measure::restore(&place.names(), &store.stream(&manifest)[..]).unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"x");
}

#[test]
fn packs_out_of_turn_are_refused() {
    let place = Place::new();
    fs::write(place.at("one"), noise(1, 12 << 20)).unwrap();
    fs::write(place.at("two"), noise(2, 12 << 20)).unwrap();
    let mut store = Store::default();
    let manifest = store.snapshot(&place.names(), b"", None).manifest;
    let (tables, section) = manifest::decode(&manifest).unwrap();
    assert_eq!(tables.packs.len(), 2);
    let mut swapped = tables.clone();
    swapped.packs.swap(0, 1);
    for chunk in &mut swapped.chunks {
        chunk.pack = 1 - chunk.pack;
    }
    let other = manifest::encode(&swapped, &section);
    let head = |manifest: &[u8]| burstflare_ports::wire::snapshot::stream::manifest(manifest).to_vec();
    let stream = store.stream(&manifest);
    let mixed = [head(&other), stream[head(&manifest).len()..].to_vec()].concat();
    assert!(measure::restore(&place.names(), &mixed[..]).is_err());
    // The other order is as good as this one, where the packs keep to it.
    measure::restore(&place.names(), &store.stream(&other)[..]).unwrap();
}

#[test]
fn a_path_that_is_too_long_is_said_so() {
    let place = Place::new();
    let mut folder =
        rustix::fs::open(&place.roots[0], rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    let name = "n".repeat(255);
    for _ in 0..260 {
        rustix::fs::mkdirat(&folder, &name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        folder = rustix::fs::openat(&folder, &name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    }
    let problem = measure::scan(&place.names(), &b""[..], "", None).err().unwrap();
    assert!(problem.to_string().contains("too long"), "{problem}");
    // What a plain removal cannot do either.
    let done = std::process::Command::new("rm").arg("-rf").arg(&place.roots[0]).status().unwrap();
    assert!(done.success());
}
