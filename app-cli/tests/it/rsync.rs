//! rsync of a large tree, both ways. `RSYNC_FILES` says how large (default 10,000).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::flare::{Answer, Place, have, run, session};
use crate::ssh_resume::{client, config};

/// Files of many sizes in many folders, some executable, some links.
fn plant(root: &Path, count: usize) {
    for number in 0..count {
        let folder = root.join(format!("{}/{}", number % 37, number % 11));
        if number < 37 * 11 {
            fs::create_dir_all(&folder).expect("made");
        }
        let file = folder.join(format!("file {number}"));
        if number % 50 == 49 {
            std::os::unix::fs::symlink(format!("file {}", number.saturating_sub(37 * 11)), &file)
                .expect("linked");
            continue;
        }
        let text = format!("{number}\n").repeat(number % 97);
        fs::write(&file, text).expect("written");
        if number % 20 == 0 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
        }
    }
}

#[test]
fn a_large_tree_goes_there_and_comes_back() {
    if !have("ssh") || !have("rsync") {
        return;
    }
    let count = std::env::var("RSYNC_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    config(&place, &server.url);
    let tree = place.path("work/tree");
    fs::create_dir(&tree).expect("made");
    plant(&tree, count);
    let ssh = format!("ssh -F {}", place.path("ssh_config").display());
    let rsync = |words: &[&str]| -> Answer {
        run(place.command("rsync").args(["-a", "--checksum", "--delete", "--stats", "-e", &ssh]).args(words))
            .ok()
    };
    let there = rsync(&["tree/", "s.flare:tree/"]);
    assert!(there.out.contains("Number of created files"), "{there:?}");
    let counted = run(client(&place, "ssh").args(["s.flare", "find tree ! -type d | wc -l"])).ok().out;
    assert_eq!(counted.trim(), count.to_string());
    rsync(&["s.flare:tree/", "back/"]);
    let same = run(place.command("diff").args(["-r", "--no-dereference", "tree", "back"])).ok();
    assert_eq!(same.out, "");
    // What has not changed is not sent again; what has is, and what is gone goes.
    fs::write(tree.join("0/0/file 0"), "changed").expect("written");
    fs::remove_file(tree.join("1/1/file 1")).expect("removed");
    let again = rsync(&["tree/", "s.flare:tree/"]);
    assert!(again.out.contains("Number of regular files transferred: 1\n"), "{again:?}");
    assert!(again.out.contains("Number of deleted files: 1 "), "{again:?}");
}
