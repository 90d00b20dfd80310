//! Lives of machines as far as they are the sandbox's own: its folders, and servers that die. The rest is the suite of `ports`.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use burstflare_adapters_local::sandbox::SandboxRuntime;
use burstflare_ports::machine::{
    AgentLink as _, DiskPlan, DiskState, MachineKey, MachineRuntime as _, Stopped,
};
use burstflare_ports::stream::Body;

use crate::Body as Trial;
use crate::world::{self, World, key, spec, target};

pub(crate) fn trials() -> Vec<(&'static str, Trial)> {
    vec![
        ("a_disk_that_was_replaced_is_removed", || Box::pin(old_disks())),
        ("destroying_removes_hostile_trees", || Box::pin(hostile_trees())),
        ("a_killed_server_ends_no_machine", || Box::pin(server_dies())),
        ("a_server_that_dies_while_starting_leaves_no_machine", || Box::pin(server_dies_early())),
        ("connections_are_used_again_and_upgraded", || Box::pin(connections())),
        ("a_start_is_quick", || Box::pin(quick())),
    ]
}

async fn old_disks() {
    let world = World::new().await;
    let machine = key();
    world.start(machine, 1).await;
    world.runtime.seal(machine, 1).await.expect("seals");
    let mut fresh = spec(machine, 2);
    fresh.disk = DiskPlan::Fresh;
    assert_eq!(world.runtime.start(fresh).await.expect("starts").disk, DiskState::Fresh);
    world.runtime.seal(machine, 2).await.expect("seals");
    let disks = std::fs::read_dir(world.machine_folder(machine).join("disk")).expect("disks").count();
    assert_eq!(disks, 1, "the old disk is gone");
}

async fn hostile_trees() {
    let world = World::new().await;
    let machine = world.machine().await;
    let outside = world.folder.path().join("outside");
    std::fs::write(&outside, "stays").expect("a file");
    world.probe(machine, &["hostile-tree", "/workspace"]).await;
    world
        .shell(
            machine,
            &format!(
                "ln -s {} /workspace/link; chmod 0 /workspace /home/flare",
                world.folder.path().display().to_string().replace(' ', "\\ ")
            ),
        )
        .await;
    world.runtime.destroy(machine, 1).await.expect("destroyed");
    assert!(!world.machine_folder(machine).exists());
    assert!(world.runtime.inspect(machine).await.expect("inspects").is_none());
    assert_eq!(std::fs::read_dir(world.config.data_dir.join("trash")).expect("trash").count(), 0);
    assert!(outside.exists());
    world.runtime.destroy(machine, 1).await.expect("destroying twice is no error");
}

async fn connections() {
    let world = World::new().await;
    let machine = world.machine().await;
    // Far more calls than connections are kept, and many at once.
    for _ in 0..5 {
        let calls = (0..40).map(|number| {
            let world = &world;
            async move { world.shell(machine, &format!("echo {number}")).await }
        });
        let answers = futures_util::future::join_all(calls).await;
        assert_eq!(answers, (0..40).map(|number: i32| number.to_string()).collect::<Vec<_>>());
    }
    let upgrade = http::Request::get("/v1/ssh")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header(
            "flare-ssh-key",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
        )
        .body(Body::empty())
        .expect("a request");
    let mut reply =
        world.runtime.send(&target(machine, 1), upgrade, Duration::from_secs(20)).await.expect("answers");
    assert_eq!(reply.status(), 101);
    let upgraded = hyper::upgrade::on(&mut reply).await.expect("upgraded");
    let mut stream = hyper_util::rt::TokioIo::new(upgraded);
    // A masked, empty ping (RFC 6455 section 5.5.2): the other side is a WebSocket.
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[0x89, 0x80, 0, 0, 0, 0]).await.expect("sent");
    let mut frame = [0];
    let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut frame);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("in time").expect("a frame");
    assert!(matches!(frame[0], 0x8a | 0x82), "a pong, or the greeting of the SSH server: {frame:?}");
}

async fn quick() {
    let world = World::new().await;
    let mut times = Vec::new();
    for _ in 0..10 {
        let machine = key();
        let begun = Instant::now();
        world.start(machine, 1).await;
        let started = begun.elapsed();
        let ready = http::Request::get("/ready").body(Body::empty()).expect("a request");
        world.call(machine, 1, ready).await;
        times.push((started, begun.elapsed()));
        world.runtime.destroy(machine, 1).await.expect("destroyed");
    }
    times.sort_unstable();
    println!("start: {times:?}");
    // Generous: others use this machine too. The median is some milliseconds.
    assert!(times[5].1 < Duration::from_secs(1), "{times:?}");
}

/// Starts one machine in a data folder, says so, and waits to be killed.
pub(crate) fn serve_until_killed(words: &[String]) -> ExitCode {
    let [folder, owner, workspace] = words else { return ExitCode::FAILURE };
    let machine = MachineKey {
        workspace: workspace.parse().expect("a workspace"),
        owner: owner.parse().expect("an owner"),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let folder = std::path::Path::new(folder);
        let sandbox = SandboxRuntime::open(world::config(folder), world::blobs(folder)).await.expect("opens");
        sandbox.start(spec(machine, 7)).await.expect("starts");
        println!("started");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

async fn server_dies() {
    use std::io::{BufRead as _, BufReader};
    let mut world = World::new().await;
    let machine = key();
    let mut server = Command::new("/proc/self/exe")
        .arg("--serve")
        .arg(world.folder.path())
        .args([machine.owner.to_string(), machine.workspace.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a server");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    assert_eq!(line, "started\n");
    server.kill().expect("killed");
    server.wait().expect("gone");
    world.reopen().await;
    let status = world.runtime.inspect(machine).await.expect("inspects").expect("known");
    assert!(status.alive && status.epoch == 7, "{status:?}");
    assert_eq!(world.shell_in(machine, 7, "echo alive").await, "alive");
    // Its way out is served again.
    let refused =
        world.exec_in(machine, 7, &[world::PROBE, "--probe", "proxy", "CONNECT", "127.0.0.1:1"]).await;
    assert!(refused.stdout.starts_with("HTTP/1.1 403"), "{refused:?}");
    world.shut_down(machine, 7).await;
    assert_eq!(world.runtime.stop(machine, 7, Duration::from_secs(20)).await.expect("stops"), Stopped::Clean);
    world.reopen().await;
    assert!(!world.runtime.inspect(machine).await.expect("inspects").expect("known").alive);
}

/// The server hangs where it records the process, before it writes the boot message, and is killed there.
async fn server_dies_early() {
    let mut world = World::new().await;
    let machine = key();
    let folder = world.machine_folder(machine);
    std::fs::create_dir(&folder).expect("the machine's folder");
    // Opening a pipe for writing waits for a reader, who never comes.
    let pipe = folder.join("life.json.new");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .expect("a pipe");
    let mut server = Command::new("/proc/self/exe")
        .arg("--serve")
        .arg(world.folder.path())
        .args([machine.owner.to_string(), machine.workspace.to_string()])
        .spawn()
        .expect("a server");
    let agent = loop {
        if let Some(agent) = agent_of(server.id()) {
            break agent;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    server.kill().expect("killed");
    server.wait().expect("gone");
    let begun = Instant::now();
    while is_agent(&agent) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the agent lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::remove_file(pipe).expect("removed");
    world.reopen().await;
    assert!(!world.runtime.inspect(machine).await.expect("inspects").expect("known").alive);
    assert_eq!(world.start(machine, 8).await.disk, DiskState::Fresh);
}

fn is_agent(process: &str) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|words| words == b"flare-agent\0")
}

/// The agent that is a child of a server.
fn agent_of(server: u32) -> Option<String> {
    std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| {
            let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(1));
            parent == Some(server.to_string().as_str()) && is_agent(name)
        })
}
