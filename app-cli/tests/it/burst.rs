//! A burst of creates, deletes and forks at once leaves nothing behind: what a server holds is counted before it and
//! after everything of it is deleted again.
//!
//! `BURST` says how many sessions are created at once (default 30; 100 for the record); half as many are deleted and a
//! fifth as many forked at the same time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::flare::{PATIENCE, Place, Server, session};

/// What a server and its machines hold of the host.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    /// Processes inside of machines.
    processes: BTreeSet<u32>,
    /// Mounts of the host's own mount namespace that show the data folder.
    mounts: usize,
    /// Control groups of machines.
    groups: BTreeSet<PathBuf>,
    /// Unix sockets bound below the data folder, by path.
    sockets: BTreeSet<String>,
    /// Files and folders below the data folder, but for the database's own.
    files: BTreeSet<PathBuf>,
    /// Open descriptors of the server that lead to namespaces or into machines' folders.
    descriptors: BTreeSet<String>,
}

/// Namespaces and groups that machines were seen in.
#[derive(Debug, Default)]
struct Seen {
    namespaces: BTreeSet<String>,
    groups: BTreeSet<PathBuf>,
}

impl Seen {
    /// Looks at the machines that live now; answers how many do.
    fn look(&mut self, data: &Path) -> usize {
        let mut alive = 0;
        for life in lives(data) {
            let Some(pid) = life["pid"].as_u64() else { continue };
            let namespaces = namespaces_of(u32::try_from(pid).expect("a process number"));
            alive += usize::from(!namespaces.is_empty());
            self.namespaces.extend(namespaces);
            let groups = life["groups"].as_array().into_iter().flatten();
            self.groups.extend(groups.filter_map(Value::as_str).map(PathBuf::from));
        }
        let own = namespaces_of(std::process::id());
        self.namespaces.retain(|name| !own.contains(name));
        alive
    }

    fn holdings(&self, server: &Server) -> Holdings {
        let data = server.data.to_str().expect("a path");
        let processes = numbers("/proc")
            .filter(|pid| namespaces_of(*pid).iter().any(|name| self.namespaces.contains(name)))
            .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let sockets = fs::read_to_string("/proc/net/unix").expect("sockets");
        let descriptors = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("descriptors");
        let descriptors = descriptors
            .flatten()
            .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_str()?.to_owned()))
            .filter(|target| {
                target.contains("/machines/ses_")
                    || self.namespaces.contains(target)
                    || target.starts_with("anon_inode:[pidfd]")
            });
        Holdings {
            processes,
            mounts: mounts.lines().filter(|line| line.contains(data)).count(),
            groups: self.groups.iter().filter(|group| group.exists()).cloned().collect(),
            sockets: sockets
                .lines()
                .filter_map(|line| line.split_whitespace().nth(7))
                .filter(|path| path.contains(data))
                .map(str::to_owned)
                .collect(),
            files: files(&server.data),
            descriptors: descriptors.collect(),
        }
    }
}

fn numbers(folder: &str) -> impl Iterator<Item = u32> {
    fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `pid:[4026531836]` and its like; empty where the process has ended.
fn namespaces_of(pid: u32) -> BTreeSet<String> {
    ["mnt", "pid", "net", "ipc", "uts", "user"]
        .iter()
        .filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.to_str().map(str::to_owned))
        .collect()
}

fn lives(data: &Path) -> Vec<Value> {
    let machines = fs::read_dir(data.join("machines")).into_iter().flatten().flatten();
    machines
        .filter_map(|machine| serde_json::from_slice(&fs::read(machine.path().join("life.json")).ok()?).ok())
        .collect()
}

fn files(data: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with("-wal") || name.ends_with("-shm") {
                continue;
            }
            // What a machine holds inside is its own; that the machine is there counts.
            let machine = entry.path().parent().is_some_and(|parent| parent.ends_with("machines"));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !machine {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

#[test]
fn a_burst_leaves_nothing_behind() {
    let creates: usize = std::env::var("BURST").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let (deletes, forks) = (creates / 2, creates / 5);
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    place.flare(["session", "exec", "s", "--", "sh", "-c", "echo kept > mark"]).ok();
    let snapshot = place.flare(["snapshot", "create", "s", "--json"]).ok().json();
    let snapshot = snapshot["id"].as_str().expect("an id");
    let mut seen = Seen::default();
    seen.look(&server.data);
    // What the one session that stays holds belongs to both counts.
    let before = seen.holdings(&server);
    assert!(!before.processes.is_empty(), "the one session is not seen: {before:?}");

    let old: Vec<_> = (0..deletes).map(|number| format!("old-{number}")).collect();
    at_once(&place, &old, |name| words(&["session", "up", name, "--template", "t"]));
    assert!(seen.look(&server.data) > deletes, "the sessions are not seen");
    let new: Vec<_> = (0..creates).map(|number| format!("new-{number}")).collect();
    let forked: Vec<_> = (0..forks).map(|number| format!("fork-{number}")).collect();
    let begun = Instant::now();
    let all: Vec<_> = [&new[..], &old[..], &forked[..]].concat();
    at_once(&place, &all, |name| match name.split_once('-') {
        Some(("new", _)) => words(&["session", "up", name, "--template", "t"]),
        Some(("old", _)) => words(&["session", "delete", name]),
        _ => words(&["snapshot", "fork", snapshot, name]),
    });
    let took = begun.elapsed();
    let alive = seen.look(&server.data);
    assert_eq!(alive, 1 + creates + forks, "machines that live");
    for name in [&new[0], &forked[0]] {
        let there =
            place.flare(["session", "exec", name, "--", "sh", "-c", "cat mark 2>/dev/null; true"]).ok();
        assert_eq!(there.out == "kept\n", name.starts_with("fork"), "{name}: {there:?}");
    }

    let rest: Vec<_> = [&new[..], &forked[..]].concat();
    at_once(&place, &rest, |name| words(&["session", "delete", name]));
    // Ends are told before the last descriptor of them is closed.
    let until = Instant::now() + PATIENCE;
    let mut after = seen.holdings(&server);
    while after != before && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(50));
        after = seen.holdings(&server);
    }
    assert_eq!(after.processes, before.processes, "processes");
    assert_eq!(after.groups, before.groups, "control groups");
    assert_eq!(after.sockets, before.sockets, "sockets");
    assert_eq!(after.descriptors, before.descriptors, "descriptors of the server");
    let stray: Vec<_> = after.files.difference(&before.files).collect();
    assert!(stray.is_empty(), "files: {stray:?}");
    assert_eq!(after, before);
    println!(
        "{creates} creates, {deletes} deletes and {forks} forks at once took {} ms; {} namespaces and {} control \
         groups came and went; nothing is left",
        took.as_millis(),
        seen.namespaces.len(),
        seen.groups.len(),
    );
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs a command for each name, all at once, and insists on every one's success.
#[track_caller]
fn at_once(place: &Place, names: &[String], command: impl Fn(&str) -> Vec<String> + Sync) {
    std::thread::scope(|scope| {
        let running: Vec<_> = names
            .iter()
            .map(|name| {
                let command = &command;
                scope.spawn(move || place.flare(command(name)))
            })
            .collect();
        for (name, answer) in names.iter().zip(running) {
            let answer = answer.join().expect("a command");
            assert_eq!(answer.code, 0, "{name}: {answer:?}");
        }
    });
}
