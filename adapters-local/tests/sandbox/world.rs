//! A data folder, a runtime on it, and machines to call.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_adapters_local::sandbox::{AgentCommand, SandboxConfig, SandboxRuntime};
use burstflare_ports::blob::Blobs;
use burstflare_ports::id::Id;
use burstflare_ports::machine::{
    AgentLink as _, AgentTarget, DiskPlan, Epoch, Limits, MachineKey, MachineOwner, MachineRuntime as _,
    MachineSpec, Started,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{Boot, ExecOutput, ExecRequest, PROTOCOL};
use tempfile::TempDir;

/// The key of every machine here.
pub(crate) const KEY: &str = "a key that is long enough for everybody";
const DEADLINE: Duration = Duration::from_secs(60);
/// Where this program is inside machines.
pub(crate) const PROBE: &str = "/opt/flare/tools/flare-probe/probe";

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A world of its own for each trial.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) config: SandboxConfig,
    pub(crate) runtime: SandboxRuntime,
    pub(crate) blobs: Arc<dyn Blobs>,
}

/// What a command inside did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) end: ExecOutput,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = config(folder.path());
        change(&mut config);
        let blobs = blobs(folder.path());
        let runtime =
            SandboxRuntime::open(config.clone(), Arc::clone(&blobs)).await.expect("this host isolates");
        Self { folder, config, runtime, blobs }
    }

    /// Opens the data folder once more, as the next server does.
    pub(crate) async fn reopen(&mut self) {
        self.runtime =
            SandboxRuntime::open(self.config.clone(), Arc::clone(&self.blobs)).await.expect("opens again");
    }

    pub(crate) async fn start(&self, machine: MachineKey, epoch: Epoch) -> Started {
        self.runtime.start(spec(machine, epoch)).await.expect("starts")
    }

    /// A new machine that answers.
    pub(crate) async fn machine(&self) -> MachineKey {
        let machine = key();
        self.start(machine, 1).await;
        machine
    }

    pub(crate) async fn call(
        &self,
        machine: MachineKey,
        epoch: Epoch,
        request: http::Request<Body>,
    ) -> (http::StatusCode, Vec<u8>) {
        let reply = self.runtime.send(&target(machine, epoch), request, DEADLINE).await.expect("answers");
        let status = reply.status();
        let body = reply.into_body().collect(64 << 20, "test").await.expect("a body");
        (status, body.to_vec())
    }

    /// Runs a command inside and waits for its end.
    pub(crate) async fn exec(&self, machine: MachineKey, argv: &[&str]) -> Ran {
        self.exec_in(machine, 1, argv).await
    }

    pub(crate) async fn exec_in(&self, machine: MachineKey, epoch: Epoch, argv: &[&str]) -> Ran {
        let wanted =
            ExecRequest { argv: argv.iter().map(ToString::to_string).collect(), ..ExecRequest::default() };
        let (status, body) = self.call(machine, epoch, post("/v1/exec", &wanted)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let mut ran = Ran { stdout: String::new(), stderr: String::new(), end: ExecOutput::Exit(255) };
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line).expect("a line of output") {
                ExecOutput::Stdout(text) => ran.stdout.push_str(&text),
                ExecOutput::Stderr(text) => ran.stderr.push_str(&text),
                ExecOutput::StdoutB64(_) | ExecOutput::StderrB64(_) => {}
                end => ran.end = end,
            }
        }
        ran
    }

    /// Runs a probe inside; answers what it found.
    pub(crate) async fn probe(&self, machine: MachineKey, words: &[&str]) -> String {
        let argv = [&[PROBE, "--probe"], words].concat();
        let ran = self.exec(machine, &argv).await;
        assert_eq!(ran.end, ExecOutput::Exit(0), "{words:?}: {ran:?}");
        ran.stdout.trim_end().to_owned()
    }

    /// Runs a shell line inside; answers what it printed.
    pub(crate) async fn shell(&self, machine: MachineKey, line: &str) -> String {
        self.shell_in(machine, 1, line).await
    }

    pub(crate) async fn shell_in(&self, machine: MachineKey, epoch: Epoch, line: &str) -> String {
        let ran = self.exec_in(machine, epoch, &["sh", "-c", line]).await;
        assert_eq!(ran.end, ExecOutput::Exit(0), "{line}: {ran:?}");
        ran.stdout.trim_end().to_owned()
    }

    pub(crate) async fn shut_down(&self, machine: MachineKey, epoch: Epoch) {
        let wanted = burstflare_ports::wire::Shutdown { grace_ms: 1000 };
        let (status, body) = self.call(machine, epoch, post("/v1/shutdown", &wanted)).await;
        assert_eq!(status, 204, "{}", String::from_utf8_lossy(&body));
    }

    pub(crate) fn machine_folder(&self, machine: MachineKey) -> PathBuf {
        self.config.data_dir.join("machines").join(machine.owner.to_string())
    }

    /// The agent's process, as the host numbers it.
    pub(crate) fn pid(&self, machine: MachineKey) -> i64 {
        let life = fs::read(self.machine_folder(machine).join("life.json")).expect("a life");
        let life: serde_json::Value = serde_json::from_slice(&life).expect("JSON");
        life["pid"].as_i64().expect("a number")
    }
}

impl Drop for World {
    /// Ends what a failed trial left: machines outlive their servers.
    fn drop(&mut self) {
        let machines = fs::read_dir(self.config.data_dir.join("machines")).into_iter().flatten().flatten();
        for machine in machines {
            let Ok(life) = fs::read(machine.path().join("life.json")) else { continue };
            let Ok(life) = serde_json::from_slice::<serde_json::Value>(&life) else { continue };
            let pid = life["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
            let started = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let started = started
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split_ascii_whitespace().nth(19)?.parse().ok());
            if let (Some(pid), true) =
                (rustix::process::Pid::from_raw(pid), started == life["started"].as_u64())
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            // The server that would have removed its control groups goes now.
            let groups = life["groups"].as_array().into_iter().flatten().filter_map(|group| group.as_str());
            for group in groups {
                for _ in 0..200 {
                    match fs::remove_dir(group) {
                        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                            std::thread::park_timeout(Duration::from_millis(5));
                        }
                        _ => break,
                    }
                }
            }
        }
    }
}

/// The configuration of a world below a folder.
pub(crate) fn config(folder: &Path) -> SandboxConfig {
    // Nobody else may pass through here.
    let closed = folder.join("closed with a name so long that paths of sockets below it are too long for the kernel, which takes 107");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&closed).expect("a closed folder");
    let mut config = SandboxConfig::new(closed.join("data"), AgentCommand::this_program());
    config.tools = vec![probe_folder()];
    config
}

pub(crate) fn blobs(folder: &Path) -> Arc<dyn Blobs> {
    Arc::new(FsBlobs::open(folder.join("blobs")).expect("a blob store"))
}

/// This program in a folder of its own, copied once for all trials of one build.
fn probe_folder() -> PathBuf {
    static ONCE: OnceLock<PathBuf> = OnceLock::new();
    ONCE.get_or_init(|| {
        let own = fs::metadata("/proc/self/exe").expect("this program");
        let stamp =
            own.modified().expect("a time").duration_since(std::time::UNIX_EPOCH).expect("a time").as_nanos();
        let user = rustix::process::geteuid().as_raw();
        let all = std::env::temp_dir().join(format!("flare-sandbox-probe-{user}"));
        let folder = all.join(format!("{stamp}/flare-probe"));
        if !folder.join("probe").exists() {
            fs::create_dir_all(&folder).expect("a folder");
            // Those of earlier builds; younger ones may be in use by tests of another build, or be in the making by ours.
            let hour = Duration::from_secs(3600);
            let old = |entry: &fs::DirEntry| {
                entry
                    .metadata()
                    .and_then(|meta| meta.modified())
                    .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > hour))
            };
            for entry in fs::read_dir(&all).expect("a folder").flatten().filter(old) {
                let _ = fs::remove_dir_all(entry.path());
            }
            let beside = folder.join(format!("new-{}", std::process::id()));
            fs::copy("/proc/self/exe", &beside).expect("a copy");
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("modes");
            fs::rename(&beside, folder.join("probe")).expect("a name");
        }
        folder
    })
    .clone()
}

pub(crate) fn post<T: serde::Serialize>(path: &str, message: &T) -> http::Request<Body> {
    let body = serde_json::to_vec(message).expect("JSON");
    let request = http::Request::post(path).header("content-type", "application/json");
    request.body(Body::Full(body.into())).expect("a request")
}

pub(crate) fn key() -> MachineKey {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut random = [0; 10];
    random[..4].copy_from_slice(&std::process::id().to_le_bytes());
    random[4..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes()[..6]);
    let now = Timestamp::from_millis(1_700_000_000_000);
    MachineKey { workspace: Id::new(now, random), owner: MachineOwner::Session(Id::new(now, random)) }
}

pub(crate) fn target(machine: MachineKey, epoch: Epoch) -> AgentTarget {
    AgentTarget { machine, epoch, key: Secret::new(KEY.to_owned()) }
}

pub(crate) fn spec(machine: MachineKey, epoch: Epoch) -> MachineSpec {
    MachineSpec {
        machine,
        epoch,
        hostname: "trial".to_owned(),
        base: "default".to_owned(),
        layer: None,
        disk: DiskPlan::Keep,
        limits: Limits { cpu_millis: 2000, memory: 512 << 20, disk: 1 << 30, pids: 200 },
        boot: Boot {
            protocol: PROTOCOL,
            machine: machine.owner.to_string(),
            epoch,
            key: Secret::new(KEY.to_owned()),
            ssh_host_seed: Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
            hostname: "trial".to_owned(),
            roots: vec!["/workspace".to_owned(), "/home/flare".to_owned()],
            home: "/home/flare".to_owned(),
            env: BTreeMap::new(),
            on_start: None,
            egress: None,
            path: Vec::new(),
            run: burstflare_ports::wire::run_folder(),
        },
    }
}
