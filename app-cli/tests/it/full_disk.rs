//! A full disk: a clear refusal, nothing half done, and everything works again once there is room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::flare::{EXE, Place, run, session};

/// A small file system of its own, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        let root = rustix::process::geteuid().is_root();
        assert!(!(root && std::env::var_os("CI").is_some()), "root can mount a tmpfs on CI");
        eprintln!("SKIPPED: a small file system can only be mounted by root");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a server that just ended may still hold a file for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_refuses_clearly_and_recovers() {
    let place = Place::new();
    let Some(small) = Small::mount(&place.path("data")) else { return };
    let server = place.server();
    session(&place, &server, None);
    // A bundle that does not fit any more.
    let folder = place.path("work/big");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("flare.toml"), "").expect("written");
    let noise: Vec<u8> = std::iter::successors(Some(88_172_645_463_325_252_u64), |state| {
        let mut next = *state;
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        Some(next)
    })
    .take(512 << 10)
    .flat_map(u64::to_le_bytes)
    .collect();
    fs::write(folder.join("noise"), &noise).expect("written");
    let filler = small.0.join("filler");
    fill(&filler, 2 << 20);
    let upload =
        || run(place.command(EXE).args(["template", "upload", "t", "--version", "2", "--dir", "big"]));
    let refused = upload();
    assert!(refused.code != 0 && refused.err.contains("hint:"), "{refused:?}");
    assert!(refused.err.contains("no space") || refused.err.contains("space"), "{refused:?}");
    // To the last byte: reads go on, writes are refused and leave nothing.
    fill(&filler, 0);
    place.flare(["template", "list"]).ok();
    for number in 0..3 {
        let made = place.flare(["template", "create", &format!("full-{number}"), "--json"]);
        let there = place.flare(["template", "show", &format!("full-{number}")]).code == 0;
        assert_eq!(
            made.code == 0,
            there,
            "what was refused is not there, what was acknowledged is: {made:?}"
        );
    }
    fs::remove_file(&filler).expect("removed");
    place.flare(["template", "create", "after"]).ok();
    upload().ok();
    place.flare(["template", "promote", "t", "2"]).ok();
    assert_eq!(place.flare(["session", "exec", "s", "--", "echo", "ok"]).ok().out, "ok\n");
    drop(server);
}

/// Writes until only `leave` bytes are left.
fn fill(path: &Path, leave: u64) {
    use std::io::Write as _;
    let mut file = fs::File::options().create(true).append(true).open(path).expect("opened");
    for size in [1 << 20, 4096, 1] {
        let block = vec![0x5a_u8; size];
        loop {
            let stat = rustix::fs::statvfs(path.parent().expect("a folder")).expect("known");
            if stat.f_bavail * stat.f_frsize < leave + size as u64 || file.write_all(&block).is_err() {
                break;
            }
        }
    }
}
