//! Snapshots with the real program: take, edit, restore, fork, compare, name, and a server that dies in the middle.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::flare::{Place, session};

fn exec(place: &Place, name: &str, line: &str) -> String {
    place.flare(["session", "exec", name, "--", "sh", "-c", line]).ok().out
}

fn take(place: &Place, label: &str) -> String {
    let made = place.flare(["snapshot", "create", "s", "--label", label, "--json"]).ok().json();
    assert_eq!((&made["state"], &made["format"]), (&"complete".into(), &2.into()), "{made}");
    made["id"].as_str().expect("an id").to_owned()
}

fn paths(diff: &Value) -> Vec<String> {
    let text = |item: &Value, name: &str| item[name].as_str().map(str::to_owned).unwrap_or_default();
    let items = diff["items"].as_array().expect("items").iter();
    items.map(|item| format!("{} {}", text(item, "change"), text(item, "path"))).collect()
}

/// Waits until it is so, at most a minute.
#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Files of packs below the data folder.
fn packs(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut count = 0;
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            count += packs(&path);
        } else if path.to_string_lossy().contains("/packs/") {
            count += 1;
        }
    }
    count
}

#[test]
fn what_was_deleted_comes_back_and_can_be_forked() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    exec(&place, "s", "echo one > a; mkdir d; echo deep > d/b; chmod 711 a; ln -s a l");
    let first = take(&place, "first");
    exec(&place, "s", "rm -r a d; echo two > c; head -c 3000000 /dev/urandom > big");
    let second = take(&place, "second");

    let diff = place.flare(["snapshot", "diff", "second", "--json"]).ok().json();
    assert_eq!((&diff["snapshot"], &diff["against"]), (&second.as_str().into(), &first.as_str().into()));
    let root = "/workspace";
    let wanted = ["removed a", "added big", "added c", "removed d", "removed d/b"];
    let wanted: Vec<String> = wanted
        .iter()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(how, path)| format!("{how} {root}/{path}"))
        .collect();
    assert_eq!(paths(&diff), wanted);
    let page = place.flare(["snapshot", "diff", &second, "--limit", "2", "--json"]).ok().json();
    let cursor = page["next_cursor"].as_str().expect("there is more");
    let rest = place.flare(["snapshot", "diff", &second, "--json", "--cursor", cursor]).ok().json();
    assert_eq!([paths(&page), paths(&rest)].concat(), wanted);
    place.flare(["snapshot", "diff", "first", "--against", "second"]).ok();

    // Running: what it has is snapshotted first, and then it has what it had.
    exec(&place, "s", "echo unsaved > u");
    let restored = place.flare(["snapshot", "restore", "first", "--json"]).ok().json();
    assert_eq!((&restored["state"], &restored["snapshot"]), (&"running".into(), &first.as_str().into()));
    assert_eq!(exec(&place, "s", "cat a d/b; stat -c %a a; readlink l; ls"), {
        let files = "README.md\na\nbuilt.txt\nd\nflare.toml\nhello.sh\nl\n";
        format!("one\ndeep\n711\na\n{files}")
    });
    let list = place.flare(["snapshot", "list", "s", "--json"]).ok().json();
    let before = &list["items"][0];
    assert_eq!(before["kind"], "pre_restore", "{list}");

    // A fork of what was there before the restore; the origin goes on.
    let before = before["id"].as_str().unwrap();
    let fork = place.flare(["snapshot", "fork", before, "f", "--json"]).ok().json();
    assert_eq!((&fork["state"], &fork["forked_from"]), (&"running".into(), &before.into()));
    assert_eq!(
        exec(&place, "f", "cat c u; wc -c < big; test ! -e a && echo gone"),
        "two\nunsaved\n3000000\ngone\n"
    );
    exec(&place, "f", "echo mine > a");
    assert_eq!(exec(&place, "s", "cat a"), "one\n");
    // The origin's end takes nothing from the fork.
    place.flare(["session", "delete", "s"]).ok();
    place.flare(["session", "stop", "f"]).ok();
    remove_disks(&server.data);
    place.flare(["session", "start", "f"]).ok();
    assert_eq!(exec(&place, "f", "cat a c; wc -c < big"), "mine\ntwo\n3000000\n");
}

fn remove_disks(data: &Path) {
    for entry in std::fs::read_dir(data.join("machines")).expect("a folder").filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("ses_") {
            std::fs::remove_dir_all(entry.path()).expect("removed");
        }
    }
}

#[test]
fn names_are_given_taken_and_told_apart() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    let first = take(&place, "one");
    exec(&place, "s", "echo x > x");
    let second = take(&place, "two");
    let shown = place.flare(["snapshot", "show", "one", "--json"]).ok().json();
    assert_eq!(shown["id"], first.as_str());
    assert!(shown["verified_at"].is_string() && shown["expires_at"].is_null(), "{shown}");
    place.flare(["snapshot", "label", &second, "one"]).ok();
    place.flare(["snapshot", "show", "one"]).fails(5, "Several snapshots");
    let bare = place.flare(["snapshot", "label", &second, "--json"]).ok().json();
    assert!(bare["label"].is_null() && bare["expires_at"].is_string(), "{bare}");
    place.flare(["snapshot", "label", &second, "snp_x"]).fails(2, "hint");
    place.flare(["snapshot", "delete", &second]).fails(5, "go back to this snapshot");
    place.flare(["snapshot", "delete", "one"]).ok();
    place.flare(["snapshot", "show", &first]).fails(3, "no such snapshot");
    place.flare(["snapshot", "restore", &first]).fails(3, "no such snapshot");
    place.flare(["session", "stop", "s"]).ok();
    place.flare(["snapshot", "create", "s"]).fails(5, "Start it first");
    // What was ended without a snapshot is not thrown away unasked.
    place.flare(["session", "start", "s"]).ok();
    exec(&place, "s", "echo lost > y");
    place.flare(["session", "stop", "s", "--force"]).ok();
    place.flare(["snapshot", "restore", &second]).fails(5, "no snapshot shows");
    place.flare(["snapshot", "restore", &second, "--discard"]).ok();
    assert_eq!(exec(&place, "s", "cat x; test ! -e y && echo gone"), "x\ngone\n");
}

#[test]
fn a_server_killed_in_the_middle_loses_no_snapshot() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    exec(&place, "s", "echo kept > a");
    let first = take(&place, "first");
    let data = server.data.clone();
    let mut server = Some(server);
    for round in 0..3 {
        exec(&place, "s", "head -c 40000000 /dev/urandom > big; echo new > a");
        let before = packs(&data.join("blobs"));
        let mut asking = place.command(crate::flare::EXE);
        asking.args(["snapshot", "create", "s", "--no-wait"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut asking = asking.spawn().expect("flare runs");
        // Somewhere on the way: nothing is stored yet, or a part is.
        until("packs are stored", || packs(&data.join("blobs")) >= before + round);
        let old = server.take().expect("a server");
        let port = old.url.rsplit(':').next().expect("a port").to_owned();
        old.signal(Signal::KILL);
        assert_eq!(old.ended(), None);
        assert!(crate::flare::wait(&mut asking).is_some(), "the client does not end");
        let next = place.server_with(&["--port", &port]);
        assert_eq!(next.data, data);
        server = Some(next);
        // The one before is whole, and a new one can be taken.
        let shown = place.flare(["snapshot", "show", &first, "--json"]).ok().json();
        assert_eq!(shown["state"], "complete");
        until("the snapshot that was cut off is out of the way", || {
            place.flare(["snapshot", "create", "s"]).code == 0
        });
        place.flare(["snapshot", "restore", &first]).ok();
        assert_eq!(exec(&place, "s", "cat a; test ! -e big && echo gone"), "kept\ngone\n");
    }
}
