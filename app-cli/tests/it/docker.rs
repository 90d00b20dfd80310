//! Sessions as containers of a real Docker engine. `.ci/test docker` provides it, and runs the other tests of sessions on it
//! too (`FLARE_TEST_RUNTIME=docker`).

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::flare::{Answer, EXE, PATIENCE, Place, Server, have, run, session};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What a server is told besides `words`, where all tests run on containers.
pub(crate) fn words_for(words: &[&str]) -> Vec<String> {
    if variable("FLARE_TEST_RUNTIME").as_deref() != Some("docker") || words.contains(&"--runtime") {
        return Vec::new();
    }
    on(&variable("FLARE_TEST_IMAGE").expect("an image"))
}

fn on(image: &str) -> Vec<String> {
    let agent = variable("FLARE_STATIC_AGENT").expect("the static agent");
    ["--runtime", "docker", "--image", image, "--agent", &agent].map(str::to_owned).to_vec()
}

/// Removes what a data folder's deployment has on the engine.
pub(crate) fn clear(data: &Path) {
    let left = objects(data);
    for (kind, words) in [("container", ["rm", "-fv"].as_slice()), ("volume", &["volume", "rm", "-f"])] {
        for id in left.get(kind).into_iter().flatten() {
            let _ = Command::new("docker").args(words).arg(id).output();
        }
    }
}

/// Ids by kind of what a data folder's deployment has on the engine; kinds without any are left out.
fn objects(data: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let mut all = BTreeMap::new();
    let Ok(deployment) = fs::read_to_string(data.join("deployment")) else { return all };
    let filter = format!("label=dev.burstflare.deployment={deployment}");
    for (kind, words) in [
        ("container", ["ps", "-aq", "--filter"].as_slice()),
        ("volume", &["volume", "ls", "-q", "--filter"]),
        ("network", &["network", "ls", "-q", "--filter"]),
    ] {
        let output = Command::new("docker").args(words).arg(&filter).output().expect("the client runs");
        assert!(output.status.success(), "{output:?}");
        let ids: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        if !ids.is_empty() {
            all.insert(kind, ids);
        }
    }
    all
}

fn count(data: &Path) -> BTreeMap<&'static str, usize> {
    objects(data).into_iter().map(|(kind, ids)| (kind, ids.len())).collect()
}

/// Whether what these tests need is there.
fn ready() -> bool {
    let given = ["FLARE_TEST_IMAGE", "FLARE_SCRATCH_IMAGE", "FLARE_STATIC_AGENT"];
    if given.iter().all(|name| variable(name).is_some()) {
        return have("docker") && have("ssh");
    }
    assert!(std::env::var_os("CI").is_none(), "{given:?}: .ci/test docker provides them");
    eprintln!("SKIPPED: {given:?} are not set; .ci/test docker provides them");
    false
}

fn server(place: &Place, image: &str, port: &str) -> Server {
    let words = on(image);
    let words: Vec<&str> = ["--port", port].into_iter().chain(words.iter().map(String::as_str)).collect();
    place.server_with(&words)
}

fn image() -> String {
    variable("FLARE_TEST_IMAGE").expect("an image")
}

#[test]
fn an_image_of_one_program_needs_nothing_else() {
    if !ready() || !have("scp") || !have("sftp") {
        return;
    }
    let place = Place::new();
    let server = server(&place, &variable("FLARE_SCRATCH_IMAGE").expect("an image"), "0");
    let folder = place.path("work/t");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("flare.toml"), "[env]\nCOLOUR = \"red\"\n").expect("written");
    fs::write(folder.join("hello"), "from the template\n").expect("written");
    let id = session(&place, &server, Some(&folder));
    let ssh = |words: &[&str]| {
        let mut all = vec!["ssh", id.as_str(), "--"];
        all.extend(words);
        place.flare(all)
    };
    assert_eq!(ssh(&["/prog", "say", "one", "two"]).ok().out, "one two\n");
    assert_eq!(ssh(&["/prog", "exit", "7"]).code, 7);
    assert_eq!(ssh(&["/prog", "read", "hello"]).ok().out, "from the template\n");
    let who = ssh(&["/prog", "who"]).ok().out;
    assert_eq!(who, "Uid: 1000 1000 1000 1000 CapEff: 0000000000000000 /home/flare /workspace\n");
    ssh(&["/nothing"]).fails(127, "/nothing");
    // A shell is asked for, with a terminal and without one.
    let asked = run(place.command(EXE).args(["ssh", &id, "--", "-tt"]).env("TERM", "xterm"));
    assert!(asked.code != 0 && format!("{}{}", asked.out, asked.err).contains("no shell"), "{asked:?}");
    ssh(&[]).fails(127, "no shell");
    // Copies are the agent's.
    let config = place.path("ssh_config");
    run(place.command(EXE).args(["config-ssh", "--yes", "--url", &server.url, "--file"]).arg(&config)).ok();
    let client = |program: &str| {
        let mut command = place.command(program);
        command.arg("-F").arg(&config);
        command
    };
    fs::write(place.path("work/up"), "by sftp\n").expect("written");
    fs::write(place.path("work/batch"), "put up there\nls -l\nget there back\n").expect("written");
    let listed = run(client("sftp").args(["-q", "-b", "batch", "s.flare"])).ok();
    assert!(listed.out.contains("hello") && listed.out.contains("1000"), "{listed:?}");
    assert_eq!(fs::read_to_string(place.path("work/back")).expect("read"), "by sftp\n");
    run(client("scp").args(["-q", "up", "s.flare:by-scp"])).ok();
    assert_eq!(ssh(&["/prog", "read", "by-scp"]).ok().out, "by sftp\n");
    // It sleeps and wakes with its files.
    place.flare(["session", "stop", "s"]).ok();
    assert_eq!(ssh(&["/prog", "read", "/workspace/there"]).ok().out, "by sftp\n");
    place.flare(["session", "delete", "s"]).ok();
    assert_eq!(count(&server.data), BTreeMap::new(), "what is left on the engine");
}

#[test]
fn a_server_without_what_it_needs_says_how_to_get_it() {
    let place = Place::new();
    let data = place.path("data").display().to_string();
    let dev = |words: &[&str]| place.flare(["dev", "--port", "0", "--data-dir", &data].iter().chain(words));
    let none = dev(&["--runtime", "docker", "--agent", "/nowhere/flare-agent"]).failed_about("is not there");
    assert!(none.err.contains("hint:") && none.err.contains("crt-static"), "{none:?}");
    dev(&["--runtime", "docker", "--agent", "/bin/sh"]).failed_about("linked dynamically");
    dev(&["--runtime", "docker", "--network", "host"]).failed_about("--network proxy alone");
    dev(&["--image", "debian:12"]).failed_about("for --runtime docker");
}

#[test]
fn images_are_chosen_by_the_base_of_templates() {
    if !ready() {
        return;
    }
    let place = Place::new();
    let mut words = on(&image());
    words.extend(["--image", "tiny=burstflare/nowhere:none", "--port", "0"].map(str::to_owned));
    let server = place.server_with(&words.iter().map(String::as_str).collect::<Vec<_>>());
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &server.url]).ok();
    let folder = place.path("work/t");
    fs::create_dir(&folder).expect("made");
    place.flare(["template", "create", "t"]).ok();
    for (version, base, about) in
        [("1", "tiny", "docker pull burstflare/nowhere:none"), ("2", "unknown", "no base `unknown`")]
    {
        fs::write(folder.join("flare.toml"), format!("base = \"{base}\"\n")).expect("written");
        run(place.command(EXE).args(["template", "upload", "t", "--version", version, "--dir"]).arg(&folder))
            .ok();
        let answer = place.flare(["template", "promote", "t", version]);
        // Who comes when the build has failed already is led to its log.
        let told = answer.err.contains(about) || answer.err.contains("flare build log");
        assert!(answer.code != 0 && told, "{answer:?}");
    }
}

#[test]
fn twenty_sessions_at_once_leave_nothing() {
    if !ready() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &image(), "0");
    session(&place, &server, None);
    let names: Vec<String> = (0..20).map(|number| format!("many-{number}")).collect();
    let all = |words: &(dyn Fn(&str) -> Vec<String> + Sync)| {
        std::thread::scope(|scope| {
            for name in &names {
                let place = &place;
                scope.spawn(move || place.flare(words(name)).ok());
            }
        });
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    all(&|name| words(&["session", "up", name, "--template", "t"]));
    all(&|name| words(&["exec", name, "--", "sh", "-c", "test $(hostname) != x"]));
    assert_eq!(count(&server.data), BTreeMap::from([("container", 21), ("volume", 42)]));
    all(&|name| words(&["session", "delete", name]));
    place.flare(["session", "delete", "s"]).ok();
    assert_eq!(count(&server.data), BTreeMap::new(), "what is left on the engine");
    assert_eq!(fs::read_dir(server.data.join("machines")).expect("a folder").count(), 0);
}

/// `KILLS` says how often (default 6; 20 for the record): the server dies while it starts, stops and snapshots in turn.
#[test]
fn a_server_that_is_killed_leaves_nothing_stuck_or_stray() {
    if !ready() {
        return;
    }
    let rounds: u64 = variable("KILLS").and_then(|text| text.parse().ok()).unwrap_or(6);
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let port = port.to_string();
    let mut running = server(&place, &image(), &port);
    session(&place, &running, None);
    let asleep_or_awake = BTreeMap::from([("container", 1), ("volume", 2)]);
    for round in 0..rounds {
        let mark = format!("round-{round}");
        place.flare(["exec", "s", "--", "sh", "-c", &format!("echo {mark} > mark && sync mark")]).ok();
        let words: &[&str] = match round % 3 {
            0 => {
                place.flare(["session", "stop", "s"]).ok();
                &["session", "start", "s"]
            }
            1 => &["session", "stop", "s"],
            _ => &["snapshot", "create", "s"],
        };
        let mut busy =
            place.command(EXE).args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
        // Different moments of it: 15 ms to some 400 ms into it.
        let moment = Instant::now() + Duration::from_millis(15 + 55 * (round % 8));
        while Instant::now() < moment {
            std::thread::park_timeout(moment - Instant::now());
        }
        running.signal(Signal::KILL);
        assert_eq!(running.ended(), None, "killed, not ended");
        running = server(&place, &image(), &port);
        let _ = crate::flare::wait(&mut busy);
        // From whatever state the kill left, a start leads to a running machine with its files.
        let until = Instant::now() + PATIENCE;
        loop {
            let started = place.flare(["session", "start", "s", "--json"]);
            if started.code == 0 && started.json()["state"] == "running" {
                break;
            }
            assert!(Instant::now() < until, "round {round}: {started:?}");
        }
        let there = place.flare(["ssh", "s", "--", "cat", "mark"]).ok().out;
        assert_eq!(there.trim_end(), mark, "round {round}");
        assert_eq!(count(&running.data), asleep_or_awake, "round {round}");
    }
    let doctor = place.flare(["doctor", "--json", "--data-dir", &running.data.display().to_string()]).json();
    assert_eq!(doctor["ok"], true, "{doctor}");
    place.flare(["session", "delete", "s"]).ok();
    let until = Instant::now() + PATIENCE;
    while !count(&running.data).is_empty() {
        assert!(Instant::now() < until, "{:?}", objects(&running.data));
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!("{rounds} kills while it started, stopped and took snapshots: nothing stuck, nothing stray");
}

impl Answer {
    /// Insists on failure, and on something in what was said.
    #[track_caller]
    fn failed_about(self, about: &str) -> Self {
        assert!(self.code != 0 && self.err.contains(about), "`{about}` is not in {self:?}");
        self
    }
}
