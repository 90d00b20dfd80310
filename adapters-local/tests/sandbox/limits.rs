//! Limits: one machine's greed leaves the others, and the host, alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use burstflare_adapters_local::sandbox::{CheckState, NoticeKind, SandboxRuntime};
use burstflare_ports::machine::{Enforcement, Isolation, MachineRuntime as _};
use burstflare_ports::wire::ExecOutput;

use crate::Body as Trial;
use crate::world::{World, key, spec};

pub(crate) fn trials() -> Vec<(&'static str, Trial)> {
    vec![
        ("a_fork_bomb_stays_inside", || Box::pin(fork_bomb())),
        ("a_memory_hog_is_ended", || Box::pin(memory_hog())),
        ("processor_time_is_shared_out", || Box::pin(processor())),
        ("a_full_disk_ends_its_writers", || Box::pin(full_disk())),
        ("a_removed_file_that_is_open_counts", || Box::pin(removed_but_open())),
        ("the_profile_is_what_was_found", || Box::pin(profile())),
        ("nothing_is_left_behind", || Box::pin(leftovers())),
    ]
}

async fn fork_bomb() {
    let world = World::new().await;
    let (greedy, other) = (world.machine().await, world.machine().await);
    let (bomb, answer) = tokio::join!(world.probe(greedy, &["fork-bomb"]), async {
        let begun = Instant::now();
        assert_eq!(world.shell(other, "echo here").await, "here");
        begun.elapsed()
    });
    let (count, errno) = bomb.split_once(' ').expect("two numbers");
    assert!(count.parse::<u32>().expect("a number") < 200, "{bomb}");
    assert_eq!(errno, libc::EAGAIN.to_string());
    assert!(answer < Duration::from_secs(20), "{answer:?}");
    assert_eq!(world.shell(greedy, "echo here").await, "here", "the greedy one answers again");
}

async fn memory_hog() {
    let world = World::new().await;
    let (greedy, other) = (world.machine().await, world.machine().await);
    let hog = world.exec(greedy, &[crate::world::PROBE, "--probe", "memory", "2048"]).await;
    let ended = matches!(&hog.end, ExecOutput::Signal(name) if name.contains("KILL"));
    let refused = hog.stdout.starts_with("error") || hog.stderr.contains("memory allocation");
    assert!((ended || refused) && !hog.stdout.contains("kept 2048"), "{hog:?}");
    assert_eq!(world.shell(other, "echo here").await, "here");
    assert_eq!(world.shell(greedy, "echo here").await, "here");
    // Many small ones together are too many as well.
    let line = "for i in 1 2 3 4 5 6; do \"$0\" --probe memory 200 & done; wait; echo over";
    let line = line.replace("\"$0\"", crate::world::PROBE);
    let together = world.shell(greedy, &line).await;
    let whole = together.matches("kept 200").count();
    if world.runtime.profile().limits["memory"] == Enforcement::Enforced {
        assert!(whole < 6, "{together}");
    }
    assert_eq!(world.shell(other, "echo here").await, "here");
}

async fn processor() {
    let world = World::new().await;
    if world.runtime.profile().limits["cpu"] != Enforcement::Enforced {
        eprintln!("no control group of cpu for this user: the limit is reported as none");
        return;
    }
    let machine = key();
    let mut slow = spec(machine, 1);
    slow.limits.cpu_millis = 200;
    world.runtime.start(slow).await.expect("starts");
    let used =
        world.shell(machine, "timeout 2 sh -c 'while :; do :; done'; cut -d' ' -f16-17 /proc/$$/stat").await;
    let ticks: u64 = used.split(' ').map(|number| number.parse::<u64>().expect("ticks")).sum();
    // A fifth of two seconds is 40 ticks; twice that for coarse periods.
    assert!(ticks < 80, "{used}");
}

async fn full_disk() {
    let world = World::new().await;
    let mut notices = world.runtime.notices();
    let machine = key();
    let mut small = spec(machine, 1);
    small.limits.disk = 40 << 20;
    world.runtime.start(small).await.expect("starts");
    let writer = "exec 3> /workspace/big; while :; do head -c 4194304 /dev/zero >&3; sleep 0.2; done";
    let writes = world.exec(machine, &["sh", "-c", writer]).await;
    assert!(matches!(writes.end, ExecOutput::Signal(_)), "{writes:?}");
    let notice = loop {
        let notice = tokio::time::timeout(Duration::from_secs(30), notices.recv()).await;
        let notice = notice.expect("in time").expect("a notice");
        if notice.kind == NoticeKind::DiskFull {
            break notice;
        }
        assert_eq!(notice.kind, NoticeKind::DiskNearlyFull);
    };
    assert!(notice.used >= 40 << 20 && notice.limit == 40 << 20 && notice.machine == machine, "{notice:?}");
    assert!(notice.ended.iter().any(|name| name == "sh"), "{notice:?}");
    let kept = std::fs::read_to_string(world.machine_folder(machine).join("notices.jsonl")).expect("notices");
    assert!(kept.contains("\"disk_full\""), "{kept}");
    // Whoever makes room may work.
    assert_eq!(
        world
            .shell(machine, "rm /workspace/big; sleep 7; echo free > /workspace/note; cat /workspace/note")
            .await,
        "free"
    );
}

async fn removed_but_open() {
    let world = World::new().await;
    let machine = key();
    let mut small = spec(machine, 1);
    small.limits.disk = 40 << 20;
    world.runtime.start(small).await.expect("starts");
    // Six times the limit in twelve seconds, below no name at all.
    let writer = "exec 3> /workspace/big; rm /workspace/big; for i in $(seq 60); do head -c 4194304 /dev/zero >&3; sleep 0.2; done";
    let writes = world.exec(machine, &["sh", "-c", writer]).await;
    assert!(matches!(writes.end, ExecOutput::Signal(_)), "{writes:?}");
}

async fn profile() {
    let world = World::new().await;
    let profile = world.runtime.profile();
    assert_eq!(
        (profile.name.as_str(), profile.isolation, profile.network.as_str()),
        ("sandbox", Isolation::Sandbox, "proxy")
    );
    let names: Vec<&str> = profile.limits.keys().map(String::as_str).collect();
    assert_eq!(names, ["cpu", "disk", "memory", "pids"]);
    assert_eq!(profile.limits["disk"], Enforcement::Watched);
    assert_eq!(profile.limits["pids"], Enforcement::Enforced);
    let checks = SandboxRuntime::probe(world.config.clone()).await.expect("probes");
    let states: BTreeMap<&str, CheckState> =
        checks.iter().map(|check| (check.name.as_str(), check.state)).collect();
    for name in ["namespaces", "new root", "overlay and /proc", "network and limits", "system call filter"] {
        assert_eq!(states.get(name), Some(&CheckState::Ok), "{checks:?}");
    }
    for (name, held) in [("cpu limit", profile.limits["cpu"]), ("memory limit", profile.limits["memory"])] {
        assert_eq!(states[name] == CheckState::Ok, held == Enforcement::Enforced, "{checks:?}");
    }
    for check in &checks {
        assert_eq!(check.cure.is_some(), check.state != CheckState::Ok, "{check:?}");
    }
}

async fn leftovers() {
    let world = World::new().await;
    let machine = world.machine().await;
    let life = std::fs::read(world.machine_folder(machine).join("life.json")).expect("a life");
    let life: serde_json::Value = serde_json::from_slice(&life).expect("JSON");
    let groups: Vec<&str> =
        life["groups"].as_array().expect("groups").iter().filter_map(|group| group.as_str()).collect();
    if crate::world::is_root() {
        assert!(!groups.is_empty());
    }
    for group in &groups {
        let members = std::fs::read_to_string(format!("{group}/cgroup.procs")).expect("members");
        assert!(!members.is_empty(), "{group}");
    }
    let pid = world.pid(machine);
    world.runtime.destroy(machine, 1).await.expect("destroyed");
    for group in groups {
        assert!(!std::path::Path::new(group).exists(), "{group}");
    }
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "not even a zombie");
    let left: Vec<_> = std::fs::read_dir(&world.config.data_dir)
        .expect("the data folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    for name in &left {
        assert!(["machines", "layers", "trash"].contains(&name.as_str()), "{left:?}");
    }
}
