//! Kills under load: every acknowledged write is there, nothing is stuck, and doctor finds nothing.
//!
//! `KILLS` says how often (default 8; 50 for the record). In every second round the machine dies with the server.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::flare::{EXE, PATIENCE, Place, run, session};

/// Writers of templates at once.
const WRITERS: usize = 3;

#[test]
fn acknowledged_writes_survive_kills() {
    let rounds: usize = std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let place = Arc::new(Place::new());
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let port = port.to_string();
    let words = ["--port", port.as_str()];
    let mut server = place.server_with(&words);
    session(&place, &server, None);
    let mut templates = BTreeSet::new();
    let mut lines = 0;
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> =
            (0..WRITERS).map(|number| write_templates(&place, &stop, round, number)).collect();
        let appender = append_lines(&place, &stop, lines);
        let steerer = (round % 4 >= 2).then(|| stop_and_start(&place, &stop));
        // Different moments of all that work: 40 ms to some 600 ms into it.
        let moment = Instant::now() + Duration::from_millis(40 + 83 * (round as u64 % 8));
        while Instant::now() < moment {
            std::thread::park_timeout(moment - Instant::now());
        }
        let machine = machine_pid(&server.data);
        server.signal(Signal::KILL);
        if round % 2 == 1
            && let Some(pid) = machine
        {
            // It may have ended by itself between the look and the kill.
            let _ = kill_process(pid, Signal::KILL);
        }
        assert_eq!(server.ended(), None, "killed, not ended");
        stop.store(true, Ordering::Relaxed);
        // At once, as a supervisor would: commands that wait come back by themselves.
        server = place.server_with(&words);
        for writer in writers {
            templates.extend(writer.join().expect("a writer"));
        }
        lines = appender.join().expect("the appender");
        if let Some(steerer) = steerer {
            steerer.join().expect("the steerer");
        }
        check(&place, &templates, lines, round);
    }
    let doctor = place.flare(["doctor", "--json", "--data-dir", &server.data.display().to_string()]).json();
    assert_eq!(doctor["ok"], true, "{doctor}");
    println!(
        "{rounds} kills: {} acknowledged templates and {lines} fsynced lines are there",
        templates.len()
    );
    assert!(templates.len() >= rounds && lines >= rounds as u64 / 2, "there was hardly any load");
}

/// Makes templates until told to stop; answers the names that were acknowledged.
fn write_templates(
    place: &Arc<Place>,
    stop: &Arc<AtomicBool>,
    round: usize,
    number: usize,
) -> JoinHandle<Vec<String>> {
    let (place, stop) = (Arc::clone(place), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for count in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("k-{round}-{number}-{count}");
            if place.flare(["template", "create", &name, "--json"]).code == 0 {
                acknowledged.push(name);
            }
        }
        acknowledged
    })
}

/// Appends numbered lines in the session, each flushed to stable storage before it counts; answers the last number.
fn append_lines(place: &Arc<Place>, stop: &Arc<AtomicBool>, from: u64) -> JoinHandle<u64> {
    let (place, stop) = (Arc::clone(place), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut last = from;
        while !stop.load(Ordering::Relaxed) {
            let next = last + 1;
            // A line may be written whose answer is lost; then its number is written again.
            let line = format!("echo {next} >> log && sync log");
            if place.flare(["session", "exec", "s", "--", "sh", "-c", &line]).code == 0 {
                last = next;
            }
        }
        last
    })
}

/// Stops and starts the session, so that kills fall into those, too.
fn stop_and_start(place: &Arc<Place>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (place, stop) = (Arc::clone(place), Arc::clone(stop));
    std::thread::spawn(move || {
        for verb in ["stop", "start"].into_iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            place.flare(["session", verb, "s", "--json"]);
        }
    })
}

fn check(place: &Place, templates: &BTreeSet<String>, lines: u64, round: usize) {
    let there: BTreeSet<String> = all_templates(place);
    let lost: Vec<_> = templates.difference(&there).collect();
    assert!(lost.is_empty(), "round {round}: acknowledged and gone: {lost:?}");
    // From whatever state the kill left, a start leads to a running machine, within its deadlines.
    let until = Instant::now() + PATIENCE;
    loop {
        let started = place.flare(["session", "start", "s", "--json"]);
        if started.code == 0 && started.json()["state"] == "running" {
            break;
        }
        assert!(Instant::now() < until, "round {round}: {started:?}");
    }
    if lines > 0 {
        let log = place.flare(["session", "exec", "s", "--", "cat", "log"]).ok().out;
        let there: BTreeSet<u64> = log.lines().filter_map(|line| line.parse().ok()).collect();
        let lost: Vec<_> = (1..=lines).filter(|line| !there.contains(line)).collect();
        assert!(lost.is_empty(), "round {round}: flushed and gone: {lost:?} of {lines}");
    }
}

fn all_templates(place: &Place) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut command = place.command(EXE);
        command.args(["template", "list", "--json", "--limit", "200"]);
        if let Some(cursor) = &cursor {
            command.args(["--cursor", cursor]);
        }
        let page = run(&mut command).ok().json();
        let items = page["items"].as_array().expect("items");
        names.extend(items.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return names,
        }
    }
}

/// The first process of the one session's machine, as the runtime has written it down.
fn machine_pid(data: &Path) -> Option<Pid> {
    let machines = fs::read_dir(data.join("machines")).ok()?;
    let owner = machines
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("ses_"))?;
    let life: Value = serde_json::from_slice(&fs::read(owner.path().join("life.json")).ok()?).ok()?;
    Pid::from_raw(i32::try_from(life["pid"].as_i64()?).ok()?)
}
