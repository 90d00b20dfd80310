//! The process sandbox from inside and outside: every promise of its design is a trial that can fail.
//!
//! This program plays four parts: the tests; the agent, where the sandbox starts it as one; the probe, where a trial
//! runs it inside a machine; and a server that can be killed. Each trial runs twice, as root and as an ordinary
//! user, with the data folder below a folder that only the server may enter.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a trial that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "probes and servers answer on their standard output")]
#![expect(clippy::print_stderr, reason = "what was left out is said loudly")]

#[path = "sandbox/confinement.rs"]
mod confinement;
#[path = "sandbox/egress.rs"]
mod egress;
#[path = "store/fault.rs"]
mod fault;
#[path = "sandbox/faults.rs"]
mod faults;
#[path = "sandbox/layers.rs"]
mod layers;
#[path = "sandbox/life.rs"]
mod life;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/probe.rs"]
mod probe;
#[path = "sandbox/suite.rs"]
mod suite;
#[path = "sandbox/world.rs"]
mod world;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// A trial's body: an async function without arguments, boxed.
type Body = fn() -> Running;
/// The same at work.
type Running = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// An ordinary user: nothing on the host belongs to it.
const ORDINARY: u32 = 64_123;

fn main() -> ExitCode {
    burstflare_agent::main_if_reexecuted();
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("--probe") => return probe::run(&words[2..]),
        Some("--serve") => return life::serve_until_killed(&words[2..]),
        _ => {}
    }
    let all: Vec<(&'static str, Body)> = [
        confinement::trials(),
        faults::trials(),
        life::trials(),
        limits::trials(),
        layers::trials(),
        egress::trials(),
    ]
    .concat();
    let root = world::is_root();
    let mut trials = Vec::new();
    for (name, body) in all {
        trials.push(Trial::test(format!("sandbox::user::{name}"), move || as_user(name, body)));
        // Loud, not silent: libtest prints them as ignored.
        trials
            .push(Trial::test(format!("sandbox::root::{name}"), move || here(body)).with_ignored_flag(!root));
    }
    for case in suite::CASES {
        let name = case.name;
        trials
            .push(Trial::test(format!("sandbox::user::{name}"), move || as_user(name, || suite::run(case))));
        let root_too = Trial::test(format!("sandbox::root::{name}"), move || here(|| suite::run(case)));
        trials.push(root_too.with_ignored_flag(!root));
    }
    let mut arguments = Arguments::from_args();
    // Machines are watched by time; many at once on few cores would only disturb each other.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn here(body: impl FnOnce() -> Running) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(body());
    runtime.shutdown_background();
    Ok(())
}

fn as_user(name: &str, body: impl FnOnce() -> Running) -> Result<(), Failed> {
    if !world::is_root() {
        return here(body);
    }
    let output = Command::new("/proc/self/exe")
        .args(["--exact", &format!("sandbox::user::{name}"), "--nocapture"])
        .uid(ORDINARY)
        .gid(ORDINARY)
        .env("RUST_BACKTRACE", "0")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text).into_owned().into())
}
