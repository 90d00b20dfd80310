//! Machines as containers, on a real engine: the suite of `ports`, and what the engine has afterwards.
//!
//! Needs a Docker engine, the image `burstflare/base:debian-12` and the static agent: `.ci/test docker` provides them and
//! names the agent in `FLARE_STATIC_AGENT`. Where one is missing the trials are ignored, with `CI` set they fail.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, clippy::panic, reason = "a trial that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "what was left out is said loudly")]

#[path = "docker/containers.rs"]
mod containers;
#[path = "docker/suite.rs"]
mod suite;
#[path = "docker/world.rs"]
mod world;

use std::pin::Pin;
use std::process::ExitCode;

use burstflare_ports::conformance::MACHINE_CASES;
use libtest_mimic::{Arguments, Failed, Trial};

/// A trial at work.
type Running = Pin<Box<dyn Future<Output = ()>>>;
/// Begins one.
type Begin = fn() -> Running;

fn main() -> ExitCode {
    let ready = world::is_ready();
    let mut trials: Vec<Trial> = MACHINE_CASES
        .iter()
        .map(|case| Trial::test(format!("docker::{}", case.name), move || run(suite::run(case))))
        .collect();
    for (name, body) in containers::trials() {
        trials.push(Trial::test(format!("docker::containers::{name}"), move || run(body())));
    }
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(!ready)).collect();
    let mut arguments = Arguments::from_args();
    // The engine is one for all of them.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(body: Running) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(body);
    runtime.shutdown_background();
    Ok(())
}
