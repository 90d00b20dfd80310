//! What a snapshot reads and sends of a tree that changed, or changes meanwhile.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::snapshot_place::{Place, Store, assert_same, forge, later, mtime, noise, picture};
use burstflare_agent::snapshot::measure;
use burstflare_ports::wire::snapshot::{Scanned, tree};

fn some_tree(place: &Place) {
    for folder in ["src", "src/deep", "bin"] {
        fs::create_dir_all(place.at(folder)).unwrap();
        for number in 0..20 {
            let content =
                noise(number + folder.len() as u64 * 100, 500 + usize::try_from(number).unwrap() * 700);
            fs::write(place.at(folder).join(format!("file {number}")), content).unwrap();
        }
    }
    fs::write(place.at("large"), noise(1, 6 << 20)).unwrap();
    fs::hard_link(place.at("large"), place.at("src/large too")).unwrap();
    fs::File::create(place.at("sparse")).unwrap().set_len(5 << 20).unwrap();
    fs::write(place.roots[1].join("profile"), "").unwrap();
    symlink("src", place.at("link")).unwrap();
}

#[test]
fn an_unchanged_tree_is_not_read() {
    let place = Place::new();
    some_tree(&place);
    let mut store = Store::default();
    let first = store.snapshot(&place.names(), b"", Some(later()));
    assert_eq!((first.scanned.reused_files, first.scanned.read_files), (0, 63));
    let received = store.received;
    let second = store.snapshot(&place.names(), &first.manifest, Some(later()));
    let Scanned { files, read_files, read_bytes, reused_files, new_chunks, ref digest, .. } = second.scanned;
    assert_eq!((files, read_files, read_bytes, reused_files, new_chunks), (64, 0, 0, 63, 0));
    assert_eq!(*digest, first.scanned.digest);
    assert_eq!((second.packed.packs, store.received), (0, received));
    // One file more: the rest stays unread, and what is sent is that file.
    fs::write(place.at("src/deep/file 7"), noise(77, 3000)).unwrap();
    let third = store.snapshot(&place.names(), &second.manifest, None);
    assert_eq!((third.scanned.read_files, third.scanned.read_bytes, third.scanned.new_chunks), (1, 3000, 1));
    assert!(store.received - received < 3100);
    // On another disk inodes and times mean nothing: everything is read, nothing is sent.
    let taken = measure::scan(&place.names(), &third.manifest[..], "disk 2", None).unwrap();
    let Scanned { read_files, reused_files, new_chunks, .. } = taken.scanned;
    assert_eq!((read_files, reused_files, new_chunks), (63, 0, 0));
    let taken = measure::scan(&place.names(), &third.manifest[..], "", None).unwrap();
    assert_eq!(taken.scanned.read_files, 63);
}

#[test]
fn what_moves_or_is_copied_is_not_sent_again() {
    let place = Place::new();
    some_tree(&place);
    let mut store = Store::default();
    let first = store.snapshot(&place.names(), b"", Some(later()));
    let received = store.received;
    fs::rename(place.at("src"), place.roots[1].join("moved")).unwrap();
    fs::copy(place.at("large"), place.at("copy")).unwrap();
    let second = store.snapshot(&place.names(), &first.manifest, None);
    assert_eq!((second.scanned.new_chunks, store.received), (0, received));
    // Bytes in front of a large file: its later chunks are the same.
    let shifted = [b"in front", &noise(1, 6 << 20)[..]].concat();
    fs::write(place.at("copy"), shifted).unwrap();
    let third = store.snapshot(&place.names(), &second.manifest, None);
    assert_eq!(third.scanned.new_chunks, 1, "{:?}", third.scanned);
    let before = picture(&place.roots);
    place.set_aside();
    measure::restore(&place.names(), &store.stream(&third.manifest)[..]).unwrap();
    assert_same(&picture(&place.roots), &before);
}

/// A write in the same tick of the file system's clock as the one before leaves the same times.
#[test]
fn a_write_within_the_tick_of_a_scan_is_seen() {
    let place = Place::new();
    let file = place.at("racy");
    fs::write(&file, "before").unwrap();
    let mut store = Store::default();
    let written = file.metadata().unwrap();
    let ctime = written.ctime() * 1_000_000_000 + written.ctime_nsec();
    for (began, seen) in [(ctime, true), (ctime + 40_000_000, true), (ctime + 3_000_000_000, false)] {
        fs::write(&file, "before").unwrap();
        let first = store.snapshot(&place.names(), b"", Some(began));
        fs::write(&file, "behind").unwrap();
        // As if the tick had not moved on: the parent knows the very state that the file has now.
        let now = file.metadata().unwrap();
        let ctime_now = now.ctime() * 1_000_000_000 + now.ctime_nsec();
        let forged = forge(&first.manifest, |entries, tables| {
            let entry = entries.iter_mut().find(|entry| entry.path.ends_with(b"racy")).unwrap();
            entry.mtime_ns = mtime(&file);
            let tree::Body::File(known) = &mut entry.body else { panic!("a file") };
            known.ctime_ns = ctime_now;
            tables.header.began_ns = began - ctime + ctime_now;
        });
        let second = store.snapshot(&place.names(), &forged, None);
        assert_eq!(second.scanned.read_files, u64::from(seen), "began {} after", began - ctime);
    }
    // A clock that went back: what is younger than the scan is not trusted.
    let first = store.snapshot(&place.names(), b"", Some(ctime - 3_600_000_000_000));
    assert_eq!(store.snapshot(&place.names(), &first.manifest, None).scanned.read_files, 1);
}

#[test]
fn what_changes_between_scan_and_packs_is_as_it_is_when_it_is_packed() {
    let place = Place::new();
    some_tree(&place);
    for name in ["one", "two", "three"] {
        fs::write(place.at(name), noise(9, 2000)).unwrap();
    }
    fs::write(place.at("first"), "linked").unwrap();
    fs::hard_link(place.at("first"), place.at("second")).unwrap();
    fs::hard_link(place.at("first"), place.at("third")).unwrap();
    let taken = measure::scan(&place.names(), &b""[..], "disk 1", None).unwrap();
    fs::write(place.at("large"), noise(2, 5 << 20)).unwrap();
    fs::remove_file(place.at("one")).unwrap();
    fs::remove_dir_all(place.at("bin")).unwrap();
    fs::write(place.at("bin"), "no folder any more").unwrap();
    fs::remove_file(place.at("first")).unwrap();
    fs::write(place.at("first"), "another").unwrap();
    let mut store = Store::default();
    let mut stream = Vec::new();
    let packed = taken
        .pack(&HashMap::new(), |piece| {
            stream.extend_from_slice(&piece);
            Ok(())
        })
        .unwrap();
    // One, twenty in the folder, and the large one; the linked file's two other names are read, too.
    assert!(packed.changed.files >= 22 && packed.changed.torn == 0, "{:?}", packed.changed);
    let (manifest, _) = store.take(&stream);
    let now = picture(&place.roots);
    place.set_aside();
    measure::restore(&place.names(), &store.stream(&manifest)[..]).unwrap();
    let restored = picture(&place.roots);
    for (path, what) in &restored {
        // The folder was one when the tree was looked at.
        if path != b"0/bin" && path != b"0" {
            assert_eq!(now.get(path), Some(what), "{}", String::from_utf8_lossy(path));
        }
    }
    assert_eq!(restored[&b"0/third"[..]].4, b"0/second", "still the same file");
    assert_eq!(restored[&b"0/first"[..]].4, b"", "a file of its own");
    assert!(!restored.contains_key(&b"0/one"[..]));
}

#[test]
fn snapshots_of_a_busy_tree_are_whole() {
    let place = Place::new();
    some_tree(&place);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut store, mut taken) = (Store::default(), Vec::new());
    // A test that fails must not leave the writers writing.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let going = || !stop.load(std::sync::atomic::Ordering::Relaxed) && std::time::Instant::now() < deadline;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while going() {
                turn += 1;
                fs::write(place.at("large"), noise(turn, 3_000_000)).unwrap();
                fs::write(place.at("src/file 1"), noise(turn, usize::try_from(turn % 5).unwrap() * 1000))
                    .unwrap();
            }
        });
        scope.spawn(|| {
            while going() {
                fs::create_dir_all(place.at("come/and/go")).unwrap();
                fs::write(place.at("come/and/go/file"), "x").unwrap();
                fs::hard_link(place.at("come/and/go/file"), place.at("come/other")).unwrap();
                fs::remove_dir_all(place.at("come")).unwrap();
                fs::write(place.at("come"), "a file").unwrap();
                fs::remove_file(place.at("come")).unwrap();
            }
        });
        for _ in 0..15 {
            let parent = taken.last().map_or(&b""[..], |manifest: &Vec<u8>| manifest);
            let next = store.snapshot(&place.names(), parent, None);
            taken.push(next.manifest);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let calm = store.snapshot(&place.names(), &taken[14], None);
    let before = picture(&place.roots);
    place.set_aside();
    for manifest in &taken {
        measure::restore(&place.names(), &store.stream(manifest)[..]).unwrap();
    }
    measure::restore(&place.names(), &store.stream(&calm.manifest)[..]).unwrap();
    assert_same(&picture(&place.roots), &before);
}

/// While a page waits to be written back, more writes through a mapping do not touch the file's times. A scan has
/// it written back before it reads, so that the next one sees that something came after.
#[test]
fn writes_through_a_mapping_are_seen() {
    let place = Place::new();
    let path = place.at("mapped");
    fs::write(&path, noise(1, 8192)).unwrap();
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    if !matches!(rustix::fs::statfs(&path).unwrap().f_type, EXT | XFS) {
        eprintln!("skipped: this file system may know no times of mappings");
        return;
    }
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: a new mapping of a file that stays as long as it is.
    let map = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
    };
    assert_ne!(map, libc::MAP_FAILED);
    // SAFETY: within the mapping.
    let write = |byte: u8| unsafe { map.cast::<u8>().write_volatile(byte) };
    write(1);
    let mut store = Store::default();
    // Nothing is as young as this scan, so only times tell.
    let first = store.snapshot(&place.names(), b"", Some(later()));
    write(2);
    let second = store.snapshot(&place.names(), &first.manifest, Some(later()));
    assert_eq!(second.scanned.read_files, 1, "the second write was missed");
    let third = store.snapshot(&place.names(), &second.manifest, None);
    assert_eq!(third.scanned.read_files, 0);
    // SAFETY: mapped above, with this length.
    unsafe { libc::munmap(map, 8192) };
}
