//! `flare cp`: between this machine and a session, and between two.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::flare::{EXE, PATIENCE, Place, Server, have, run, session, wait};

fn ready() -> (Place, Server) {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    (place, server)
}

fn sh(place: &Place, line: &str) -> String {
    place.flare(["exec", "s", "-n", "--", "bash", "-c", line]).ok().out
}

/// Kind, mode, time, name, and content or target of everything below a folder, sorted.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let about = fs::symlink_metadata(&path).expect("there");
            let name =
                path.strip_prefix(root).expect("below").as_os_str().as_bytes().escape_ascii().to_string();
            let what = if about.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("a link").display())
            } else if about.is_dir() {
                open.push(path.clone());
                format!("{:o}", about.mode())
            } else {
                let bytes = fs::read(&path).expect("a file");
                format!("{:o} {}", about.mode(), blake3::hash(&bytes))
            };
            found.push(format!("{name} {}.{:09} {what}", about.mtime(), about.mtime_nsec()));
        }
    }
    found.sort();
    found
}

fn age(path: &Path, nanos: u64) {
    let file = fs::File::open(path).expect("opens");
    file.set_modified(UNIX_EPOCH + Duration::from_nanos(nanos)).expect("set");
}

fn no_drafts(folder: &Path) -> bool {
    fs::read_dir(folder)
        .expect("a folder")
        .all(|entry| !entry.expect("an entry").file_name().as_bytes().starts_with(b".flare-staging"))
}

#[test]
fn files_go_there_and_back() {
    let (place, _server) = ready();
    let at = |name: &str| place.path("work").join(name);
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    fs::write(at("every"), &bytes).expect("written");
    fs::set_permissions(at("every"), fs::Permissions::from_mode(0o750)).expect("set");
    age(&at("every"), 1_234_567_890_123_456_789);
    fs::write(at("empty"), "").expect("written");
    // A name that is no text, made here and copied by both of its ends.
    let odd = OsStr::from_bytes(b"odd \xff%\n");
    fs::write(at("").join(odd), "odd").expect("written");
    place.flare(["cp", "every", "s:"]).ok();
    place.flare(["cp", "empty", "s:new-name"]).ok();
    run(place.command(EXE).arg("cp").arg(odd).arg("s:")).ok();
    assert_eq!(
        sh(&place, "stat -c '%a %s %.9Y' every; stat -c %s new-name"),
        "750 3000001 1234567890.123456789\n0\n"
    );
    place.flare(["cp", "s:every", "back"]).ok();
    assert!(fs::read(at("back")).expect("there") == bytes);
    let about = fs::metadata(at("back")).expect("there");
    assert_eq!(
        (about.mode() & 0o7777, about.mtime(), about.mtime_nsec()),
        (0o750, 1_234_567_890, 123_456_789)
    );
    fs::create_dir(at("folder")).expect("made");
    let remote = [b"s:/workspace/", odd.as_bytes()].concat();
    run(place.command(EXE).arg("cp").arg(OsStr::from_bytes(&remote)).arg("folder")).ok();
    assert_eq!(fs::read(at("folder").join(odd)).expect("there"), b"odd");
    place.flare(["cp", "s:new-name", "folder/"]).ok();
    assert_eq!(fs::read(at("folder/new-name")).expect("there"), b"");
    // The home of the session, and its rules for names.
    place.flare(["cp", "empty", "s:~/there"]).ok();
    assert_eq!(sh(&place, "ls ~/there"), "/home/flare/there\n");
    for (words, code, about) in [
        (["every", "s:none/"], 3, "no folder"),
        (["every", "s:none/deep"], 3, "hint"),
        (["s:every", "none/"], 3, "no folder"),
        (["s:nothing", "x"], 3, "hint"),
        (["nothing", "s:"], 3, "nothing"),
        (["folder", "s:"], 2, "-r"),
        (["s:.", "folder"], 2, "-r"),
        (["every", "back"], 2, "SESSION:path"),
        (["every", "nobody:"], 3, "no such session"),
        (["s:/etc/passwd", "x"], 4, "leads out"),
        (["s:../etc/passwd", "x"], 2, ".."),
        (["every", "s:/etc/x"], 4, "leads out"),
    ] {
        place.flare([&["cp"][..], &words].concat()).fails(code, about);
    }
    let told = place.flare(["cp", "every", "s:told", "--json"]).ok().json();
    assert_eq!((told["entries"].as_u64(), told["bytes"].as_u64()), (Some(1), Some(3_000_001)));
    assert!(no_drafts(&place.path("work")));
}

#[test]
fn pipes_flow() {
    let (place, _server) = ready();
    let bytes: Vec<u8> = (0..=255).rev().cycle().take(2_000_003).collect();
    let mut up = place.command(EXE);
    let mut up = up.args(["cp", "-", "s:piped"]).stdin(Stdio::piped()).spawn().expect("runs");
    up.stdin.take().expect("a pipe").write_all(&bytes).expect("written");
    assert!(wait(&mut up).expect("ends").success());
    let mut down = place.command(EXE);
    let down = down.args(["cp", "s:piped", "-"]).stdout(Stdio::piped()).output().expect("runs");
    assert!(down.stdout == bytes, "every byte comes back");
    place.flare(["cp", "-", "s:"]).fails(2, "name the file");
    place.flare(["cp", "-r", "s:.", "-"]).fails(2, "standard output");
}

#[test]
fn folders_go_there_and_back() {
    let (place, _server) = ready();
    let at = |name: &str| place.path("work").join(name);
    fs::create_dir_all(at("tree/deep/er/empty")).expect("made");
    fs::create_dir_all(at("tree").join(OsStr::from_bytes(b"\xff\xfe"))).expect("made");
    fs::write(at("tree/deep/er").join(OsStr::from_bytes(b"\x80%\n")), "odd").expect("written");
    fs::write(at("tree/every"), (0..=255).cycle().take(100_000).collect::<Vec<u8>>()).expect("written");
    fs::write(at("tree/deep").join("n".repeat(255)), "long").expect("written");
    symlink("deep/er", at("tree/link")).expect("linked");
    symlink("../every", at("tree/deep/up")).expect("linked");
    symlink("nowhere", at("tree/dangling")).expect("linked");
    fs::set_permissions(at("tree/every"), fs::Permissions::from_mode(0o4751)).expect("set");
    fs::set_permissions(at("tree/deep/er"), fs::Permissions::from_mode(0o711)).expect("set");
    for name in ["tree/every", "tree/deep/er/empty", "tree/deep/er", "tree/deep", "tree"] {
        age(&at(name), 1_111_111_111_222_333_444);
    }
    place.flare(["cp", "-r", "tree", "s:copied"]).ok();
    place.flare(["cp", "-r", "s:copied", "back"]).ok();
    fs::set_permissions(at("tree/every"), fs::Permissions::from_mode(0o751)).expect("without the set-id bit");
    assert_eq!(tree(&at("tree")), tree(&at("back")));
    // A folder that is there takes it under its own name; `/.` is what is in it.
    place.flare(["cp", "-r", "tree", "s:copied"]).ok();
    place.flare(["cp", "-r", "tree/.", "s:/home/flare/."]).ok();
    assert_eq!(sh(&place, "ls copied/tree/every ~/every"), "/home/flare/every\ncopied/tree/every\n");
    fs::create_dir(at("into")).expect("made");
    place.flare(["cp", "-r", "s:copied/tree", "into"]).ok();
    assert_eq!(tree(&at("tree")), tree(&at("into/tree")));
    // Between two sessions, which here are one.
    place.flare(["cp", "-r", "s:copied/tree", "s:~/across"]).ok();
    place.flare(["cp", "s:copied/every", "s:~/file"]).ok();
    place.flare(["cp", "-r", "s:~/across", "across"]).ok();
    assert_eq!(tree(&at("tree")), tree(&at("across")));
    assert!(no_drafts(&place.path("work")));
    assert_eq!(sh(&place, "ls -A | grep -c staging; ls -A ~ | grep -c staging; true"), "0\n0\n");
}

#[test]
fn what_would_lead_out_is_left_out_on_both_sides() {
    let (place, _server) = ready();
    let at = |name: &str| place.path("work").join(name);
    let secret = place.path("secret");
    fs::create_dir(&secret).expect("made");
    fs::write(secret.join("kept"), "kept").expect("written");
    // What a session could prepare for who copies from it.
    let outside = secret.display();
    sh(
        &place,
        &format!(
            "mkdir evil; cd evil; ln -s {outside} out; ln -s ../../../../../.. up; ln -s / root; mkfifo pipe; \
             echo fine >file; echo x >closed; chmod 000 closed; mkdir sub; echo y >sub/f"
        ),
    );
    let copied = place.flare(["cp", "-r", "s:evil", "evil"]).fails(1, "5 entries were left out");
    assert!(
        copied.err.contains("out") && copied.err.contains("pipe") && copied.err.contains("closed"),
        "{copied:?}"
    );
    let names: Vec<String> =
        tree(&at("evil")).iter().map(|line| line.split(' ').next().expect("a name").to_owned()).collect();
    assert_eq!(names, ["file", "sub", "sub/f"]);
    // Folders and links that are here already are neither replaced by nor followed for what comes.
    fs::create_dir_all(at("mine/evil/file/precious")).expect("made");
    symlink(&secret, at("mine/evil/sub")).expect("linked");
    place.flare(["cp", "-r", "s:evil", "mine"]).fails(1, "left out");
    assert!(at("mine/evil/file/precious").is_dir());
    assert!(fs::symlink_metadata(at("mine/evil/sub")).expect("there").is_symlink());
    // The other way.
    fs::create_dir(at("bad")).expect("made");
    symlink("/etc/passwd", at("bad/absolute")).expect("linked");
    symlink("../../x", at("bad/up")).expect("linked");
    fs::write(at("bad/file"), "fine").expect("written");
    rustix::fs::mkfifoat(rustix::fs::CWD, at("bad/pipe"), rustix::fs::Mode::from_raw_mode(0o600))
        .expect("made");
    place.flare(["cp", "-r", "bad", "s:"]).fails(1, "3 entries were left out");
    assert_eq!(sh(&place, "ls -A bad"), "file\n");
    place.flare(["cp", "bad/pipe", "s:"]).fails(2, "neither a file nor a folder");
    assert_eq!(fs::read_dir(&secret).expect("there").count(), 1);
}

#[test]
fn an_interrupted_copy_leaves_nothing_half() {
    let (place, _server) = ready();
    let work = place.path("work");
    // Something that never ends, so that it is interrupted in the middle for sure.
    let mut up = place.command(EXE);
    let mut up =
        up.args(["cp", "-", "s:endless"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("runs");
    let mut input = up.stdin.take().expect("a pipe");
    input.write_all(&vec![0; 4 << 20]).expect("written");
    let end = Instant::now() + PATIENCE;
    while sh(&place, "ls -A | grep -c staging; true") != "1\n" {
        assert!(Instant::now() < end, "never began");
    }
    interrupt(&up);
    assert_eq!(wait(&mut up).expect("ends").code(), Some(130));
    drop(input);
    let end = Instant::now() + PATIENCE;
    while sh(&place, "ls -A | grep -c -e staging -e endless; true") != "0\n" {
        assert!(Instant::now() < end, "a draft stays");
    }
    // A folder that takes a while: a reader of its archive is stopped while it unpacks.
    sh(&place, "mkdir big; for i in $(seq 1 40); do head -c 8M /dev/urandom >big/$i; done");
    let mut down = place.command(EXE);
    let mut down = down.args(["cp", "-r", "s:big", "big"]).stderr(Stdio::null()).spawn().expect("runs");
    let drafts = |root: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(root).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.to_string_lossy().contains(".flare-staging")).collect()
    };
    let end = Instant::now() + PATIENCE;
    while drafts(&work).is_empty() {
        assert!(Instant::now() < end, "never began");
    }
    interrupt(&down);
    let code = wait(&mut down).expect("ends").code();
    assert_eq!(drafts(&work), Vec::<PathBuf>::new(), "{code:?}");
    assert!(code == Some(130) && !work.join("big").exists() || code == Some(0), "{code:?}");
}

fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
}

/// `FLARE_COPY_MB` makes it larger; memory does not grow with it.
#[test]
fn a_large_file_flows_and_memory_stays_flat() {
    if !have("bash") {
        return;
    }
    let (place, server) = ready();
    let megabytes: u64 = std::env::var("FLARE_COPY_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(48);
    let path = place.path("work/large");
    let mut file = fs::File::create(&path).expect("made");
    let mut piece: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for number in 0..megabytes {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&piece).expect("written");
    }
    drop(file);
    let before = peak(server.pid());
    for words in [["cp", "large", "s:large"], ["cp", "s:large", "back"]] {
        let mut child = place.command(EXE).args(words).spawn().expect("runs");
        let pid = child.id();
        let mut most = 0;
        while child.try_wait().expect("waits").is_none() {
            most = most.max(peak(pid));
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(child.wait().expect("ended").success());
        eprintln!("{words:?}: {megabytes} MB, the client's memory at most {most} KiB");
        assert!(most < 64 << 10, "{most} KiB");
    }
    let after = peak(server.pid());
    eprintln!("the server's memory at most {before} KiB before and {after} KiB after");
    assert!(after < before + (48 << 10), "{before} KiB, then {after} KiB");
    assert!(same(&path, &place.path("work/back")));
}

/// The most memory that a process has had so far, in KiB; 0 once it has ended.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn same(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (fs::File::open(one).expect("opens"), fs::File::open(other).expect("opens"));
    let (mut first, mut second) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = one.read(&mut first).expect("read");
        if length == 0 {
            return other.read(&mut second).expect("read") == 0;
        }
        if other.read_exact(&mut second[..length]).is_err() || first[..length] != second[..length] {
            return false;
        }
    }
}
