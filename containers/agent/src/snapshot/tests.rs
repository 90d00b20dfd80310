//! Crashes at every step of a restore.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::stream::{self, Decoder, Order, Part};

use super::measure::{recover, restore, scan};
use super::swap::crash;

/// The stream of a machine, turned into one to a machine.
fn snapshot(roots: &[String]) -> Vec<u8> {
    let mut decoder = Decoder::new(Order::PacksFirst);
    let (mut head, mut packs) = (Vec::new(), Vec::new());
    let taken = scan(roots, &b""[..], "", None).expect("scans");
    taken
        .pack(&HashMap::new(), |piece| {
            for part in decoder.push(&piece).expect("well formed") {
                match part {
                    Part::PackBegin(pack) => packs.extend_from_slice(&stream::begin(&pack)),
                    Part::PackBytes(bytes) => packs.extend_from_slice(&stream::bytes(&bytes)),
                    Part::PackEnd { .. } => packs.extend_from_slice(&stream::end(b"")),
                    Part::Manifest(bytes) => head.extend_from_slice(&stream::manifest(&bytes)),
                }
            }
            Ok(())
        })
        .expect("packs");
    [&head[..], &packs, &frame::encode_trailer(b"{}")].concat()
}

type Picture = BTreeMap<String, (u32, i64, Vec<u8>)>;

fn look(path: &Path, all: &mut Picture) {
    let meta = path.symlink_metadata().expect("is there");
    let mut content = Vec::new();
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("lists") {
            look(&entry.expect("entry").path(), all);
        }
    } else {
        content = fs::read(path).expect("reads");
    }
    let mtime = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
    all.insert(path.display().to_string(), (meta.mode() & 0o7777, mtime, content));
}

fn picture(roots: &[String]) -> Picture {
    let mut all = Picture::new();
    for root in roots {
        look(Path::new(root), &mut all);
    }
    all
}

fn write(root: &str, name: &str, content: &str) {
    let path = Path::new(root).join(name);
    fs::create_dir_all(path.parent().expect("has one")).expect("mkdir");
    fs::write(path, content).expect("writes");
}

#[test]
fn a_crash_at_any_step_leaves_the_old_trees_or_the_new_ones() {
    let folder = tempfile::tempdir().expect("folder");
    let roots: Vec<String> =
        ["one", "two"].iter().map(|root| folder.path().join(root).display().to_string()).collect();
    for (root, name) in roots.iter().zip(["first", "second"]) {
        write(root, "both/kept", name);
        write(root, "both/new", name);
        write(root, "new folder/deep/file", name);
        write(root, "file", "new");
        fs::hard_link(Path::new(root).join("file"), Path::new(root).join("name")).expect("links");
        let parts = fs::File::create(Path::new(root).join("parts")).expect("creates");
        parts.set_len(1 << 20).expect("grows");
        std::os::unix::fs::FileExt::write_all_at(&parts, name.as_bytes(), 1 << 19).expect("writes");
        let shut = fs::Permissions::from_mode(0o500);
        fs::set_permissions(Path::new(root).join("new folder/deep"), shut).expect("chmod");
        let sticky = fs::Permissions::from_mode(0o1755);
        fs::set_permissions(root, sticky).expect("chmod");
    }
    let new = picture(&roots);
    let stream = snapshot(&roots);
    let reset = || {
        for root in &roots {
            if Path::new(root).exists() {
                let open = fs::Permissions::from_mode(0o700);
                let shut = Path::new(root).join("new folder/deep");
                if shut.exists() {
                    fs::set_permissions(shut, open).expect("chmod");
                }
                fs::remove_dir_all(root).expect("removes");
            }
            write(root, "both/kept", "old");
            write(root, "both/old", "old");
            write(root, "old folder/deep/file", "old");
            write(root, "file/was a folder", "old");
        }
    };
    let (mut left_old, mut left_new) = (0, 0);
    for steps in 0.. {
        reset();
        let old = picture(&roots);
        crash::after(Some(steps));
        let result = restore(&roots, &stream[..]);
        let crashed = crash::is_dead() && result.is_err();
        crash::after(None);
        if !crashed {
            assert!(result.is_ok(), "{result:?}");
            assert!(picture(&roots) == new);
            break;
        }
        // What a crash leaves beside the tree is removed, or finished, when the next agent starts.
        // And that may crash, too.
        crash::after(Some(steps % 7));
        let again = recover(&roots);
        let crashed = crash::is_dead() && again.is_err();
        crash::after(None);
        assert!(crashed || again.is_ok(), "{again:?}");
        recover(&roots).expect("recovers");
        for root in &roots {
            let before = fs::symlink_metadata(root).expect("is there");
            crate::folder::sweep(root).expect("sweeps");
            let times = crate::folder::times(before.mtime() * 1_000_000_000 + before.mtime_nsec());
            let handle = crate::folder::open_root(root).expect("opens");
            rustix::fs::futimens(handle, &times).expect("sets");
        }
        let (mut now, mut old, mut new) = (picture(&roots), old, new.clone());
        let is_new = now.contains_key(&format!("{}/both/new", roots[0]));
        if !is_new {
            // The old roots' own times tell of the staging folder that came and went.
            for picture in [&mut now, &mut old] {
                for root in &roots {
                    picture.get_mut(root).expect("is there").1 = 0;
                }
            }
        } else if now[&roots[0]] != new[&roots[0]] {
            new.insert(roots[0].clone(), now[&roots[0]].clone());
        }
        left_old += u32::from(!is_new);
        left_new += u32::from(is_new);
        assert_eq!(now, if is_new { new } else { old }, "after {steps} steps");
    }
    assert!(left_old > 20 && left_new > 10, "{left_old} {left_new}");
    reset();
}
