//! Sessions that nobody uses: what they hold, and how often they wake.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::Client;
use crate::memory;
use crate::server::wait;

/// How long idle sessions are looked at.
const LOOK: Duration = Duration::from_secs(20);
/// What follows a start has passed by then: kept connections to agents are closed after 75 s, and a machine rests when it
/// was quiet for 30 s after that.
const SETTLE: Duration = Duration::from_secs(120);

/// Prints memory and wake-ups of `count` sessions beside as many processes that sleep.
pub(crate) fn run(client: &mut Client, template: &str, data: &Path, server: u32, count: u64) {
    let alone = memory::of(server);
    let ids: Vec<_> =
        (0..count).map(|number| client.create_session(&format!("idle-{number}"), template)).collect();
    for id in &ids {
        client.exec_first_byte(id);
    }
    wait(SETTLE);
    let agents = memory::agent_pids(data);
    let held: Vec<_> = agents.iter().map(|pid| memory::of(*pid)).collect();
    let laden = memory::of(server);
    let (woken, server_woken) = (wakes(&agents), wakes(&[server]));
    wait(LOOK);
    let agents_wake = per_second(&woken, &wakes(&agents));
    let server_wakes = per_second(&server_woken, &wakes(&[server]));
    let resident = |share: fn(&memory::Memory) -> f64| held.iter().map(share).sum::<f64>();
    let most = held.iter().map(|one| one.resident).fold(0.0, f64::max);

    let mut sleepers: Vec<Child> = (0..count)
        .map(|_| Command::new("/bin/sleep").arg("600").stdout(Stdio::null()).spawn().unwrap())
        .collect();
    let floor: f64 = sleepers.iter().map(|child| memory::of(child.id()).proportional).sum();
    for child in &mut sleepers {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    println!("\n{count} idle sessions               all together   each");
    println!(
        "  agents, resident            {:>7.1} MB    {most:>7.1} MB at most   (aim <= 10 each)",
        resident(|one| one.resident)
    );
    println!(
        "  agents, private share       {:>7.1} MB    {:>7.1} MB",
        resident(|one| one.proportional),
        resident(|one| one.proportional) / held.len() as f64
    );
    println!(
        "  server, resident            {:>7.1} MB    {:>+7.2} MB for each",
        laden.resident,
        (laden.resident - alone.resident) / count as f64
    );
    println!("  {count} times /bin/sleep          {floor:>7.1} MB    (private share)");
    println!(
        "  wake-ups a second: agents {agents_wake:.2}, server {server_wakes:.2}   (aim: no polling; looked at for {} s)",
        LOOK.as_secs()
    );
    for id in ids {
        client.delete_session(&id);
    }
}

/// Times that each thread of some processes gave up the processor and came back.
fn wakes(pids: &[u32]) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let switches = status
                .lines()
                .filter(|line| line.contains("ctxt_switches"))
                .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                .sum();
            found.insert(task.path(), switches);
        }
    }
    found
}

/// Threads that have ended meanwhile count with the one time that they woke for it.
fn per_second(before: &BTreeMap<PathBuf, u64>, after: &BTreeMap<PathBuf, u64>) -> f64 {
    let went = before.keys().filter(|task| !after.contains_key(*task)).count() as u64;
    let woke: u64 = after.iter().map(|(task, count)| count - before.get(task).unwrap_or(&0).min(count)).sum();
    (woke + went) as f64 / LOOK.as_secs_f64()
}
