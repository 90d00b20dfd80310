//! The main job with blobs on an S3 service: builds, layers and snapshots, and a server that dies in the middle.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::Signal;

use crate::flare::{EXE, Place, run, session, wait};
use crate::s3_server::{BUCKET, KEY, PATIENCE, REGION, SECRET, Server};

/// A server, and a user whose home has the keys to it.
fn surroundings() -> Option<(Server, Place, String)> {
    let server = Server::start()?;
    let place = Place::new();
    let folder = place.path("home/.aws");
    fs::create_dir(&folder).expect("made");
    let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    fs::write(folder.join("credentials"), text).expect("written");
    mode(&place, 0o600);
    let url = format!("s3://{BUCKET}/of/flare?endpoint=http://127.0.0.1:{}&region={REGION}", server.port);
    // The bucket may come a moment later than the port.
    until("the bucket is there", || problems(&place, &url).is_empty());
    Some((server, place, url))
}

fn mode(place: &Place, mode: u32) {
    let file = place.path("home/.aws/credentials");
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("changed");
}

/// What doctor finds wrong with blobs at this place.
fn problems(place: &Place, url: &str) -> Vec<String> {
    let data = place.path("nothing");
    let words = ["--json", "doctor", "--blobs", url, "--data-dir", data.to_str().expect("text")];
    let checks = place.flare(words).json();
    let checks = checks["checks"].as_array().expect("checks").iter();
    let blobs: Vec<_> =
        checks.filter(|check| check["name"].as_str().is_some_and(|name| name.starts_with("blobs"))).collect();
    assert!(!blobs.is_empty(), "doctor does not look");
    blobs.iter().filter(|check| check["state"] != "ok").map(|check| check["detail"].to_string()).collect()
}

#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn exec(place: &Place, line: &str) -> String {
    place.flare(["session", "exec", "s", "--", "sh", "-c", line]).ok().out
}

fn take(place: &Place, label: &str) -> String {
    let made = place.flare(["snapshot", "create", "s", "--label", label, "--json"]).ok().json();
    assert_eq!(made["state"], "complete", "{made}");
    made["id"].as_str().expect("an id").to_owned()
}

fn remove_disks(data: &Path) {
    for entry in fs::read_dir(data.join("machines")).expect("a folder").filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("ses_") {
            fs::remove_dir_all(entry.path()).expect("removed");
        }
    }
}

#[test]
fn the_main_job_needs_nothing_of_the_folder() {
    let Some((_s3, place, url)) = surroundings() else { return };
    let server = place.server_with(&["--port", "0", "--blobs", &url]);
    session(&place, &server, None);
    assert!(exec(&place, "cat built.txt").contains("hello"), "the layer");
    exec(&place, "echo one > a; head -c 20000000 /dev/zero | tr '\\0' x > big");
    take(&place, "first");
    exec(&place, "echo two > a");
    let ready = place.flare(["doctor", "--data-dir", server.data.to_str().expect("text"), "--json"]).json();
    let answers = ready["checks"].as_array().expect("checks").iter().find(|check| check["name"] == "answers");
    assert_eq!(answers.expect("asked")["state"], "ok", "{ready}");
    place.flare(["session", "stop", "s"]).ok();
    let (data, port) = (server.data.clone(), server.url.rsplit(':').next().expect("a port").to_owned());
    assert!(!data.join("blobs").exists(), "something was stored in the folder");
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));

    // Another place is refused: nothing would be there.
    let dir = data.to_str().expect("text");
    place.flare(["dev", "--port", "0", "--data-dir", dir]).fails(5, "--blobs 's3://");
    remove_disks(&data);
    let layers = data.join("layers");
    if layers.is_dir() {
        fs::remove_dir_all(&layers).expect("removed");
    }
    let _server = place.server_with(&["--port", &port, "--blobs", &url]);
    place.flare(["session", "start", "s"]).ok();
    assert_eq!(exec(&place, "cat a; wc -c < big; env | grep -c AWS || :"), "two\n20000000\n0\n");
    place.flare(["snapshot", "restore", "first"]).ok();
    assert_eq!(exec(&place, "cat a"), "one\n");
}

#[test]
fn a_server_killed_in_mid_upload_loses_no_snapshot() {
    let Some((s3, place, url)) = surroundings() else { return };
    let server = place.server_with(&["--port", "0", "--blobs", &url]);
    session(&place, &server, None);
    exec(&place, "echo kept > a");
    let first = take(&place, "first");
    let mut server = Some(server);
    for round in 0..3 {
        exec(&place, "head -c 40000000 /dev/urandom > big; echo new > a");
        let before = s3.stored();
        let mut asking = place.command(EXE);
        asking.args(["snapshot", "create", "s", "--no-wait"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut asking = asking.spawn().expect("flare runs");
        // Somewhere on the way: the service holds nothing new yet, or a part of it.
        until("something is stored", || s3.stored() >= before + round * 10_000_000);
        let old = server.take().expect("a server");
        let port = old.url.rsplit(':').next().expect("a port").to_owned();
        old.signal(Signal::KILL);
        assert_eq!(old.ended(), None);
        assert!(wait(&mut asking).is_some(), "the client does not end");
        server = Some(place.server_with(&["--port", &port, "--blobs", &url]));
        let shown = place.flare(["snapshot", "show", &first, "--json"]).ok().json();
        assert_eq!(shown["state"], "complete");
        until("the snapshot that was cut off is out of the way", || {
            place.flare(["snapshot", "create", "s"]).code == 0
        });
        place.flare(["snapshot", "restore", &first]).ok();
        assert_eq!(exec(&place, "cat a; test ! -e big && echo gone"), "kept\ngone\n");
    }
}

#[test]
fn doctor_and_dev_name_what_is_missing() {
    let Some((_s3, place, url)) = surroundings() else { return };
    mode(&place, 0o644);
    let found = problems(&place, &url).concat();
    assert!(found.contains("chmod 600"), "{found}");
    place.flare(["dev", "--port", "0", "--data-dir", "d", "--blobs", &url]).fails(4, "chmod 600");
    mode(&place, 0o600);
    let absent = url.replace(BUCKET, "not-there");
    assert!(problems(&place, &absent).concat().contains("no such bucket"));
    place.flare(["dev", "--port", "0", "--data-dir", "d", "--blobs", &absent]).fails(4, "no such bucket");
    // The environment comes before the file.
    let mut wrong = place.command(EXE);
    wrong.args(["dev", "--port", "0", "--data-dir", "d", "--blobs", &url]);
    let wrong = wrong.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", "0".repeat(64));
    run(wrong).fails(4, "key");
    place.flare(["dev", "--port", "0", "--blobs", "s3://id:secret@b"]).fails(2, "AWS_ACCESS_KEY_ID");
}

/// A command line of the README is one that the program takes.
#[test]
fn the_readme_shows_commands_that_exist() {
    let readme = include_str!("../../../README.md");
    let chapter =
        readme.split("\n## ").find(|chapter| chapter.starts_with("Blobs in S3")).expect("the chapter");
    let mut count = 0;
    for line in chapter.lines().filter(|line| line.starts_with("flare ")) {
        let line =
            line.replace("BUCKET", "bucket").replace("PREFIX", "pre/fix").replace("ACCOUNT", "account");
        let words = line.split(' ').map(|word| word.trim_matches('\''));
        if let Err(error) = flare::cli::Cli::try_parse_from(words) {
            panic!("{line}: {error}");
        }
        count += 1;
    }
    assert!(count >= 5, "{count} commands");
    for word in ["endpoint", "region", "addressing", "checksums"] {
        assert!(chapter.contains(&format!("| `{word}` |")), "{word} is not explained");
    }
}
