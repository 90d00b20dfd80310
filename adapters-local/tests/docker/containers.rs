//! What the engine is asked for, and what it has afterwards.

use std::time::Duration;

use burstflare_adapters_local::docker::DockerRuntime;
use burstflare_ports::error::ErrorKind;
use burstflare_ports::machine::{
    AgentLink as _, AgentTarget, DiskPlan, Enforcement, IMAGE, Isolation, Limits, MachineKey, MachineOwner,
    MachineRuntime as _, MachineSpec,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::stream::Body;
use burstflare_ports::wire::{Boot, ExecOutput, ExecRequest, PROTOCOL, run_folder};

use crate::Begin;
use crate::world::{World, docker};

const KEY: &str = "a key that is long enough for everybody";
const DEADLINE: Duration = Duration::from_secs(60);

/// The trials.
pub(crate) fn trials() -> Vec<(&'static str, Begin)> {
    vec![
        ("a_container_has_few_rights_and_no_network", || Box::pin(rights())),
        ("an_image_that_is_not_there_is_said_to_be_missing", || Box::pin(no_image())),
        ("what_nobody_knows_any_more_is_found_and_removed", || Box::pin(strays())),
        ("a_container_that_is_killed_from_outside_is_seen_to_be_dead", || Box::pin(killed())),
        ("a_start_that_was_cut_off_is_begun_anew", || Box::pin(cut_off())),
        ("the_way_out_is_served_again_by_the_next_server", || Box::pin(way_out())),
        ("the_limits_hold", || Box::pin(limits())),
        ("what_has_no_static_agent_or_no_engine_is_refused", || Box::pin(refused())),
        ("twenty_at_once_leave_nothing", || Box::pin(twenty())),
    ]
}

fn key(number: u8) -> MachineKey {
    let mut random = [number; 10];
    random[1..5].copy_from_slice(&std::process::id().to_be_bytes());
    let now = burstflare_ports::time::Timestamp::from_millis(1_700_000_000_000);
    MachineKey {
        workspace: burstflare_ports::id::Id::new(now, random),
        owner: MachineOwner::Session(burstflare_ports::id::Id::new(now, random)),
    }
}

fn spec(machine: MachineKey, epoch: u64) -> MachineSpec {
    MachineSpec {
        machine,
        epoch,
        hostname: "trial".to_owned(),
        base: "default".to_owned(),
        layer: None,
        disk: DiskPlan::Keep,
        limits: Limits { cpu_millis: 500, memory: 256 << 20, disk: 1 << 30, pids: 100 },
        boot: Boot {
            protocol: PROTOCOL,
            machine: machine.owner.to_string(),
            epoch,
            key: Secret::new(KEY.to_owned()),
            ssh_host_seed: Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
            hostname: "trial".to_owned(),
            roots: vec!["/workspace".to_owned(), "/home/flare".to_owned()],
            home: "/home/flare".to_owned(),
            env: std::collections::BTreeMap::new(),
            on_start: None,
            egress: None,
            path: Vec::new(),
            run: run_folder(),
        },
    }
}

/// The one container of a world.
fn container(world: &World) -> String {
    let objects = world.objects();
    let mut containers = objects.iter().filter_map(|id| id.strip_prefix("c:"));
    let first = containers.next().expect("a container").to_owned();
    assert_eq!(containers.next(), None);
    first
}

fn field(id: &str, template: &str) -> String {
    docker(&["inspect", "--format", template, id])
}

/// Runs a shell line inside, as soon as the agent answers; what it printed, and how it ended.
async fn shell(world: &World, machine: MachineKey, epoch: u64, line: &str) -> (String, ExecOutput) {
    let target = AgentTarget { machine, epoch, key: Secret::new(KEY.to_owned()) };
    let argv = ["sh", "-c", line].map(str::to_owned).to_vec();
    let wanted = serde_json::to_vec(&ExecRequest { argv, ..ExecRequest::default() }).expect("JSON");
    let until = std::time::Instant::now() + DEADLINE;
    let answer = loop {
        let request =
            http::Request::post("/v1/exec").body(Body::Full(wanted.clone().into())).expect("a request");
        match world.runtime.send(&target, request, DEADLINE).await {
            Ok(answer) => break answer,
            Err(error) if error.kind() == ErrorKind::Unavailable && std::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    let body = answer.into_body().collect(1 << 20, "test").await.expect("a body");
    let mut printed = String::new();
    let mut end = ExecOutput::Exit(255);
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).expect("a line") {
            ExecOutput::Stdout(text) | ExecOutput::Stderr(text) => printed.push_str(&text),
            other => end = other,
        }
    }
    (printed.trim_end().to_owned(), end)
}

async fn rights() {
    let world = World::new().await;
    let machine = key(1);
    world.runtime.start(spec(machine, 1)).await.expect("starts");
    let id = container(&world);
    assert_eq!(field(&id, "{{.HostConfig.NetworkMode}} {{.HostConfig.Privileged}}"), "none false");
    assert_eq!(field(&id, "{{.HostConfig.SecurityOpt}}"), "[no-new-privileges:true]");
    assert_eq!(field(&id, "{{.HostConfig.CapDrop}}"), "[ALL]");
    let added = field(&id, "{{.HostConfig.CapAdd}}");
    for raw in ["NET_RAW", "MKNOD", "AUDIT_WRITE", "NET_ADMIN", "SYS_"] {
        assert!(!added.contains(raw), "{added}");
    }
    assert!(!field(&id, "{{.Config.Env}}").contains(KEY), "the engine keeps no key");
    let (seen, _) = shell(
        &world,
        machine,
        1,
        "grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status; ls /sys/class/net; ls /.flare; id -u; \
         mknod /tmp/n b 8 0 || echo none; echo x > /run/flare/egress/x || echo closed; \
         tr '\\0' '\\n' < /proc/1/cmdline",
    )
    .await;
    let none = "0000000000000000";
    let head = format!("CapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nNoNewPrivs:\t1\nlo\n");
    let text = seen.replace("\nls: ", "\n# ");
    assert!(text.contains(&head), "{seen}");
    assert!(
        text.contains("Permission denied") && text.contains("1000\n") && text.contains("none\n"),
        "{seen}"
    );
    assert!(text.contains("closed"), "{seen}");
    let profile = world.runtime.profile();
    assert_eq!((profile.name.as_str(), profile.isolation), ("docker", Isolation::Container));
    world.runtime.destroy(machine, 1).await.expect("destroyed");
    assert_eq!(world.objects(), Vec::<String>::new());
}

async fn no_image() {
    let world = World::new().await;
    let mut config = world.config.clone();
    config.images.insert("lost".to_owned(), "burstflare/nowhere:none".to_owned());
    let runtime = DockerRuntime::open(config, std::sync::Arc::clone(&world.blobs)).await.expect("opens");
    let warned = runtime.checks().iter().any(|check| check.detail.contains("burstflare/nowhere:none"));
    assert!(warned, "{:?}", runtime.checks());
    let mut lost = spec(key(1), 1);
    "lost".clone_into(&mut lost.base);
    let error = runtime.start(lost).await.expect_err("no image");
    assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, IMAGE));
    assert!(error.context().contains("docker pull burstflare/nowhere:none"), "{error}");
    runtime.destroy(key(1), 1).await.expect("destroyed");
    assert_eq!(world.objects(), Vec::<String>::new());
}

/// The machines' folders are lost, the engine's objects are not.
async fn strays() {
    let world = World::new().await;
    let (running, asleep) = (key(1), key(2));
    world.runtime.start(spec(running, 4)).await.expect("starts");
    world.runtime.start(spec(asleep, 1)).await.expect("starts");
    world.runtime.stop(asleep, 1, Duration::ZERO).await.expect("stops");
    let machines = world.config.data_dir.join("machines");
    for machine in [running, asleep] {
        std::fs::remove_dir_all(machines.join(machine.owner.to_string())).expect("lost");
    }
    let next = world.opened_again().await;
    let found = next.list(None, 200).await.expect("lists");
    let seen: Vec<_> = found.iter().map(|status| (status.machine, status.epoch, status.alive)).collect();
    assert_eq!(seen, [(running, 4, true), (asleep, 0, false)]);
    let stale = next.destroy(running, 3).await.expect_err("of an earlier life");
    assert_eq!(stale.kind(), ErrorKind::Stale);
    for status in found {
        next.destroy(status.machine, status.epoch).await.expect("destroyed");
    }
    assert_eq!(world.objects(), Vec::<String>::new());
}

async fn killed() {
    let world = World::new().await;
    let machine = key(1);
    world.runtime.start(spec(machine, 1)).await.expect("starts");
    world.runtime.seal(machine, 1).await.expect("seals");
    shell(&world, machine, 1, "echo kept > /workspace/f").await;
    docker(&["kill", &container(&world)]);
    let status = world.runtime.inspect(machine).await.expect("inspects").expect("known");
    assert!(!status.alive && status.disk_whole, "{status:?}");
    world.runtime.start(spec(machine, 2)).await.expect("starts");
    assert_eq!(shell(&world, machine, 2, "cat /workspace/f").await.0, "kept");
    // Removed altogether, disk and all: what is not there does not count as kept.
    docker(&["rm", "-f", &container(&world)]);
    for volume in world.objects().iter().filter_map(|id| id.strip_prefix("v:")) {
        docker(&["volume", "rm", volume]);
    }
    let started = world.runtime.start(spec(machine, 3)).await.expect("starts");
    assert_eq!(started.disk, burstflare_ports::machine::DiskState::Fresh);
    world.runtime.destroy(machine, 3).await.expect("destroyed");
    assert_eq!(world.objects(), Vec::<String>::new());
}

/// What a server leaves that dies between the engine's start and its own record of it.
async fn cut_off() {
    let world = World::new().await;
    let machine = key(1);
    world.runtime.start(spec(machine, 1)).await.expect("starts");
    let record =
        world.config.data_dir.join("machines").join(machine.owner.to_string()).join("container.json");
    let text = std::fs::read_to_string(&record).expect("a record");
    assert!(text.contains("\"begun\":true"), "{text}");
    std::fs::write(&record, text.replace("\"begun\":true", "\"begun\":false")).expect("written");
    let before = container(&world);
    let next = world.opened_again().await;
    next.start(spec(machine, 1)).await.expect("starts");
    assert_ne!(container(&world), before, "another container of the same life");
    next.destroy(machine, 1).await.expect("destroyed");
    assert_eq!(world.objects(), Vec::<String>::new());
}

async fn way_out() {
    let mut world = World::new().await;
    let machine = key(1);
    world.runtime.start(spec(machine, 1)).await.expect("starts");
    // The proxy refuses what is the host's, so somebody has answered.
    let ask = "exec 3<>/dev/tcp/127.0.0.1/3128; \
               printf 'CONNECT 127.0.0.1:1 HTTP/1.1\\r\\nHost: 127.0.0.1:1\\r\\n\\r\\n' >&3; head -n 1 <&3";
    let line = format!("bash -c '{}'", ask.replace('\'', "'\\''"));
    let (before, _) = shell(&world, machine, 1, &line).await;
    assert!(before.starts_with("HTTP/1.1 403"), "{before}");
    world.runtime = world.opened_again().await;
    let (after, _) = shell(&world, machine, 1, &line).await;
    assert!(after.starts_with("HTTP/1.1 403"), "{after}");
    // There is no other one.
    let (direct, _) = shell(&world, machine, 1, "bash -c 'exec 3<>/dev/tcp/192.0.2.1/80' 2>&1").await;
    assert!(direct.contains("unreachable"), "{direct}");
    world.runtime.destroy(machine, 1).await.expect("destroyed");
    assert_eq!(world.objects(), Vec::<String>::new());
}

async fn limits() {
    let world = World::new().await;
    let machine = key(1);
    let held = world.runtime.profile().limits;
    world.runtime.start(spec(machine, 1)).await.expect("starts");
    let id = container(&world);
    let given = field(&id, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}");
    let bounded = |name: &str| held.get(name) == Some(&Enforcement::Enforced);
    if bounded("memory") && bounded("cpu") && bounded("pids") {
        assert_eq!(given, format!("{} 500000000 100", 256 << 20));
    }
    if bounded("pids") {
        let (seen, _) =
            shell(&world, machine, 1, "for n in $(seq 200); do sleep 2 & done 2>&1 | tail -n 1; echo end")
                .await;
        assert!(seen.contains("fork"), "{seen}");
    }
    if bounded("memory") {
        // Half of it may lie in /tmp; the rest is the program's own.
        let (_, end) = shell(&world, machine, 1, "head -c 400m /dev/zero | tail -c 399m > /dev/null").await;
        assert_ne!(end, ExecOutput::Exit(0), "400 MB in 256");
    }
    world.runtime.destroy(machine, 1).await.expect("destroyed");
    assert_eq!(world.objects(), Vec::<String>::new());
}

async fn refused() {
    let world = World::new().await;
    let open = |change: &dyn Fn(&mut burstflare_adapters_local::docker::DockerConfig)| {
        let mut config = world.config.clone();
        change(&mut config);
        DockerRuntime::open(config, std::sync::Arc::clone(&world.blobs))
    };
    let dynamic = open(&|config| config.agent = "/bin/sh".into()).await.expect_err("no static program");
    assert_eq!((dynamic.kind(), dynamic.operation()), (ErrorKind::Unsupported, "docker.agent"));
    let nobody = open(&|config| config.socket = "/nowhere/docker.sock".into()).await.expect_err("no engine");
    assert_eq!(nobody.kind(), ErrorKind::Unsupported);
    // What answers there is no engine, and never says anything.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("silent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("listens");
    drop(listener);
    let gone = open(&|config| config.socket.clone_from(&path)).await.expect_err("nobody");
    assert_eq!(gone.kind(), ErrorKind::Unsupported);
    // A data folder whose machines are the sandbox's.
    let other = world.config.data_dir.join("machines").join(key(9).owner.to_string());
    std::fs::create_dir(&other).expect("made");
    std::fs::write(other.join("life.json"), "{}").expect("written");
    let taken = open(&|_| {}).await.expect_err("the sandbox's");
    assert_eq!(taken.kind(), ErrorKind::Conflict);
}

async fn twenty() {
    let world = World::new().await;
    let machines: Vec<MachineKey> = (1..=20).map(key).collect();
    let starts = machines.iter().map(|machine| world.runtime.start(spec(*machine, 1)));
    for started in futures_util::future::join_all(starts).await {
        started.expect("starts");
    }
    let answers = machines.iter().map(|machine| shell(&world, *machine, 1, "hostname"));
    assert!(futures_util::future::join_all(answers).await.iter().all(|(text, _)| text == "trial"));
    assert_eq!(world.objects().len(), 60, "a container and two volumes each");
    assert_eq!(world.folders(), 20);
    let ends = machines.iter().map(|machine| world.runtime.destroy(*machine, 1));
    for ended in futures_util::future::join_all(ends).await {
        ended.expect("destroyed");
    }
    assert_eq!(world.objects(), Vec::<String>::new());
    assert_eq!(world.folders(), 0);
}
