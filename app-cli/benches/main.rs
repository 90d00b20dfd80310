//! `cargo bench -p flare`: what the main job costs, each number beside a baseline that is measured in the same run.
//!
//! Machines are noisy: compare within a run, not between runs. `BENCH_SESSIONS` (default 40), `BENCH_BURST` (100
//! sessions at once), `BENCH_IDLE` (50 sessions that nobody uses), `BENCH_KEYS` (2,000 keystrokes), `BENCH_SECONDS`
//! (default 4 for each load) and `BENCH_TENANT_SESSIONS` (default 100,000) scale it; `BENCH_ONLY=` `create`,
//! `burst`, `idle`, `ssh` or `terminal` measures that part alone, and `docker` sessions as containers beside `docker run`, which
//! nothing else does.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench stops at surprises"
)]

mod bare;
mod burst;
mod by_hand;
mod client;
mod docker;
mod idle;
mod load;
mod memory;
mod processor;
mod relay;
mod server;
mod ssh;
mod stats;
mod tenants;
mod terminal;

use std::time::{Duration, Instant};

use client::Client;
use server::Server;
use stats::Times;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Whether `BENCH_ONLY` asks for one part alone.
fn only(part: &str) -> bool {
    std::env::var("BENCH_ONLY").is_ok_and(|only| only == part)
}

fn main() {
    burstflare_agent::main_if_reexecuted();
    if bare::is_asked_for() {
        return bare::run();
    }
    if relay::is_asked_for() {
        return relay::run();
    }
    if std::env::args().any(|word| word == "--list" || word == "--test") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    println!(
        "flare {} on {} processors",
        env!("CARGO_PKG_VERSION"),
        std::thread::available_parallelism().unwrap()
    );
    if only("docker") {
        return docker::run(folder.path(), setting("BENCH_SESSIONS", 20));
    }
    version();
    let mut server = Server::start(folder.path());
    let idle = memory::of(server.pid());
    let mut client = Client::register(server.port());
    let template = client.template();
    let data = folder.path().join("data");
    if only("create") {
        return sessions(&mut client, &template);
    }
    if only("burst") {
        return burst::run(&mut client, &template, &data, server.pid(), setting("BENCH_BURST", 100));
    }
    if only("idle") {
        return idle::run(&mut client, &template, &data, server.pid(), setting("BENCH_IDLE", 50));
    }
    if only("ssh") {
        return ssh::run(&server, &mut client, &template, folder.path());
    }
    if only("terminal") {
        return terminal::run(&mut client, &template, setting("BENCH_KEYS", 2_000));
    }
    sessions(&mut client, &template);
    terminal::run(&mut client, &template, setting("BENCH_KEYS", 2_000));
    burst::run(&mut client, &template, &data, server.pid(), setting("BENCH_BURST", 100));
    let agent = memory::agents(&data);
    println!("\nidle memory                     resident       private share");
    println!(
        "  server                      {:>7.1} MB    {:>7.1} MB   (aim <= 40)",
        idle.resident, idle.proportional
    );
    for one in agent.iter().take(1) {
        println!(
            "  agent of one session        {:>7.1} MB    {:>7.1} MB   (aim <= 10)",
            one.resident, one.proportional
        );
    }
    idle::run(&mut client, &template, &data, server.pid(), setting("BENCH_IDLE", 50));
    ssh::run(&server, &mut client, &template, folder.path());
    lists(&mut server, &client, folder.path());
}

/// `flare --version` beside the smallest program there is.
fn version() {
    let measure = |program: &str, words: &[&str]| {
        Times::of((0..40).map(|_| {
            let begun = Instant::now();
            let status = std::process::Command::new(program)
                .args(words)
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert!(status.success());
            begun.elapsed()
        }))
    };
    let ours = measure(env!("CARGO_BIN_EXE_flare"), &["--version"]);
    let floor = measure("/bin/true", &[]);
    println!("\nstart of a program               median        p99");
    println!("  flare --version             {ours}   (aim <= 10 ms)");
    println!("  /bin/true                   {floor}");
}

/// Create → first byte of a command's output, beside the same namespaces, overlay and shell by hand.
fn sessions(client: &mut Client, template: &str) {
    let count = setting("BENCH_SESSIONS", 40);
    let mut created = Vec::new();
    let mut acknowledged = Vec::new();
    let mut ids = Vec::new();
    for number in 0..count {
        let begun = Instant::now();
        let id = client.create_session(&format!("bench-{number}"), template);
        acknowledged.push(begun.elapsed());
        client.exec_first_byte(&id);
        created.push(begun.elapsed());
        ids.push(id);
        // Five stay for the list; the others go, so that sessions do not pile up.
        if ids.len() > 5 {
            let id = ids.remove(0);
            client.delete_session(&id);
        }
    }
    let by_hand = Times::of((0..count).map(|_| by_hand::run()));
    println!(
        "\ncreate -> first command          median        p99     ({count} sessions, one after the other)"
    );
    println!("  POST sessions answered      {}", Times::of(acknowledged.into_iter()));
    println!("  POST exec: first output     {}   (aim: median < 50 ms)", Times::of(created.into_iter()));
    println!("  by hand: namespaces, overlay, sh -c 'echo ok'");
    println!("                              {by_hand}");
}

/// An authenticated list of five sessions: alone, among many tenants, and beside a bare handler with the same statements.
fn lists(server: &mut Server, client: &Client, folder: &std::path::Path) {
    let span = Duration::from_secs(setting("BENCH_SECONDS", 4));
    let request = client.list_request();
    load::run(server.port(), &request, span / 4);
    let alone = load::run(server.port(), &request, span);
    let health = load::run(server.port(), &client.plain_request("/healthz"), span);
    server.stop();

    let others = setting("BENCH_TENANT_SESSIONS", 100_000);
    let bare_alone = bare::measure(folder, client.token(), span);
    tenants::add(folder, others);
    server.restart();
    load::run(server.port(), &request, span / 4);
    let among = load::run(server.port(), &request, span);
    server.stop();
    let bare_among = bare::measure(folder, client.token(), span);

    println!("\nauthenticated list, 5 rows        req/s       (16 connections, {} s each)", span.as_secs());
    println!("  alone in the database       {alone:>9.0}   (aim >= 5,000)");
    println!(
        "  among {others:>7} sessions    {among:>9.0}   ({:+.1} %, aim within 10 %)",
        (among / alone - 1.0) * 100.0
    );
    println!(
        "  bare handler, alone         {bare_alone:>9.0}   (ours is {:.2} of it, aim >= 0.7)",
        alone / bare_alone
    );
    println!("  bare handler, among         {bare_among:>9.0}   (ours is {:.2} of it)", among / bare_among);
    println!("  /healthz of the server      {health:>9.0}");
}
