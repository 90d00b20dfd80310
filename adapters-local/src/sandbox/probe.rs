//! What this host allows, found out by trying: for doctor, and before anything is promised.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use super::cgroup::Groups;
use super::config::{AgentCommand, SandboxConfig};
use super::failed;
use super::job::{self, Order};
use super::kernel::{self, attr};
use super::layout::{self, ROOTS, Rooms};
use super::plan::{Descriptors, Source, Stage, c};
use super::record::private_folder;
use super::spawn::{self, Refused};

/// How a line of doctor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is there.
    Ok,
    /// It is not, and something else takes its place or a limit does not hold.
    Degraded,
    /// It is not, and no machine can be isolated without.
    Missing,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `namespaces`, `overlay`, `layer owners`, `system call filter`, `cpu limit`, …
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// What was seen.
    pub detail: String,
    /// What can be done about it.
    pub cure: Option<String>,
}

const PROBE: &str = "sandbox.probe";

fn check(name: &str, state: CheckState, detail: impl Into<String>, cure: Option<&str>) -> Check {
    Check { name: name.to_owned(), state, detail: detail.into(), cure: cure.map(str::to_owned) }
}

/// Tries everything that a start needs.
pub(super) fn checks(config: &SandboxConfig) -> PortResult<Vec<Check>> {
    let agent = open_agent(&config.agent)?;
    drop(agent);
    private_folder(&config.data_dir).map_err(failed(PROBE, "cannot make the data folder"))?;
    let root = rustix::process::geteuid().is_root();
    let mut checks = trial(config, root)?;
    if root {
        checks.push(layer_owners(config));
    }
    let groups = Groups::detect();
    for (name, enforcement) in groups.enforcement() {
        use burstflare_ports::machine::Enforcement;
        let name = format!("{name} limit");
        checks.push(match enforcement {
            Enforcement::Enforced => check(&name, CheckState::Ok, "held by the kernel", None),
            // The disk is watched everywhere: no lack of this host.
            Enforcement::Watched if name.starts_with("disk") => {
                check(&name, CheckState::Ok, "watched: measured every few seconds", None)
            }
            Enforcement::Watched | Enforcement::None => {
                let how = if enforcement == Enforcement::Watched { "only watched" } else { "not held" };
                check(
                    &name,
                    CheckState::Degraded,
                    format!("{how}: {}", groups.missing.join("; ")),
                    Some("run the server as root, or with delegated control groups: systemd-run --user --scope -p Delegate=yes flare dev"),
                )
            }
        });
    }
    Ok(checks)
}

/// Does everything of a start but the program: what fails, and where, says what is missing.
fn trial(config: &SandboxConfig, root: bool) -> PortResult<Vec<Check>> {
    let folder = config.data_dir.join(format!("trial-{}", std::process::id()));
    let prepare = || -> io::Result<(OwnedFd, Source, Option<u32>)> {
        let owner = root.then_some(config.users.layers);
        for (_, name) in ROOTS {
            for part in ["upper", "work"] {
                let path = folder.join(name).join(part);
                private_folder(&path)?;
                std::os::unix::fs::chown(&path, owner, owner)?;
            }
            std::os::unix::fs::chown(folder.join(name), owner, owner)?;
        }
        std::os::unix::fs::chown(&folder, owner, owner)?;
        let null = open_null_file()?;
        let disk = if root {
            let handle = rustix::fs::open(&folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            Source::Mount(kernel::detached(handle.as_raw_fd(), attr::NOSUID | attr::NODEV)?)
        } else {
            Source::Path(c(folder.as_os_str().as_encoded_bytes()))
        };
        Ok((null, disk, owner))
    };
    let (null, disk, owner) = prepare().map_err(failed(PROBE, "cannot prepare a trial of the sandbox"))?;
    let rooms = Rooms {
        hostname: "trial",
        disk,
        layer: None,
        egress: None,
        tools: Vec::new(),
        host_names: false,
        memory: 64 << 20,
    };
    let fd = null.as_raw_fd();
    let outcome = spawn::run(job::job(Order {
        owner,
        network: config.network,
        plan: layout::plan(rooms),
        hostname: "trial",
        limits: Vec::new(),
        // No program: /dev/null cannot be executed.
        fds: Descriptors { exe: fd, boot: fd, socket: fd, null: fd, log: fd },
        enters: &[],
    }));
    let removed = super::remove::Trash::open(config.data_dir.join("trash"))
        .and_then(|trash| trash.take(&folder).and_then(|()| trash.empty()));
    if let Err(error) = removed {
        tracing::warn!(%error, "the trial's folder could not be removed");
    }
    match outcome {
        Err(refused) => Ok(judge(&refused)),
        Ok(pid) => {
            spawn::kill_and_reap(pid);
            Err(PortError::new(ErrorKind::Internal, PROBE, "the trial ran a program that is none"))
        }
    }
}

fn judge(refused: &Refused) -> Vec<Check> {
    const LINES: [(&str, &[Stage], &str); 5] = [
        (
            "namespaces",
            &[Stage::Groups, Stage::Identity, Stage::Namespaces, Stage::Mapping],
            "allow unprivileged user namespaces (sysctl user.max_user_namespaces > 0; on Ubuntu \
             kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile for flare), or run the server as root",
        ),
        (
            "new root",
            &[Stage::Sources, Stage::NewRoot, Stage::Pivot],
            "a kernel of 5.12 or newer is needed, and inside a container it has to run privileged",
        ),
        (
            "overlay and /proc",
            &[Stage::Steps],
            "a kernel of 5.12 or newer with overlayfs is needed, the data folder on a file system that can be an upper \
             layer (ext4, xfs, btrfs; no overlay, NFS or ZFS); inside a container /proc must be unmasked",
        ),
        (
            "network and limits",
            &[Stage::Network, Stage::Limits, Stage::Descriptors],
            "see the kernel's answer",
        ),
        (
            "system call filter",
            &[Stage::Privileges, Stage::Filter],
            "a kernel with CONFIG_SECCOMP_FILTER is needed",
        ),
    ];
    let reached = refused.stage as usize;
    let mut checks = Vec::new();
    for (name, stages, cure) in LINES {
        let first = stages.first().map_or(0, |stage| *stage as usize);
        if stages.contains(&refused.stage) {
            let error = io::Error::from_raw_os_error(refused.errno);
            let detail = format!("the kernel refused {}{}: {error}", refused.stage, refused.about);
            checks.push(check(name, CheckState::Missing, detail, Some(cure)));
        } else if first < reached {
            checks.push(check(name, CheckState::Ok, "works", None));
        }
    }
    checks
}

/// The check that says whether layers are shared.
pub(super) const LAYER_OWNERS: &str = "layer owners";

/// Whether layers can be shared by mapping their owner.
fn layer_owners(config: &SandboxConfig) -> Check {
    let tried = spawn::user_namespace(config.users.layers, config.users.first).and_then(|map| {
        let folder = rustix::fs::open(&config.data_dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let mount = kernel::detached(folder.as_raw_fd(), attr::RDONLY)?;
        kernel::map_owners(&mount, &map)
    });
    match tried {
        Ok(()) => check(LAYER_OWNERS, CheckState::Ok, "layers are shared by idmapped mounts", None),
        Err(error) => check(
            LAYER_OWNERS,
            CheckState::Degraded,
            format!("no idmapped mounts here ({error}): each machine gets a copy of its layer"),
            Some("use a kernel of 5.19 or newer and a data folder on ext4, xfs or btrfs"),
        ),
    }
}

/// Opens the agent's program; one that only its owner may run is copied into memory, because machines run as others.
pub(super) fn open_agent(agent: &AgentCommand) -> PortResult<OwnedFd> {
    let context = || format!("cannot use the agent's program {}", agent.exe.display());
    let file = fs::File::open(&agent.exe)
        .map_err(|error| PortError::new(ErrorKind::Invalid, "sandbox.open", context()).with_source(error))?;
    let meta = file.metadata().map_err(failed("sandbox.open", context()))?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(PortError::new(
            ErrorKind::Invalid,
            "sandbox.open",
            format!("{}: it is no program", context()),
        ));
    }
    if meta.permissions().mode() & 0o005 == 0o005 || !rustix::process::geteuid().is_root() {
        return Ok(file.into());
    }
    in_memory(file).map_err(failed("sandbox.open", context()))
}

fn in_memory(mut file: fs::File) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let copy = rustix::fs::memfd_create("flare-agent", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = fs::File::from(copy);
    io::copy(&mut file, &mut copy)?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o555))?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    // A program that is open for writing cannot be run.
    Ok(fs::File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}

fn open_null_file() -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// Opens `/dev/null` for the agents' standard streams.
pub(super) fn open_null() -> PortResult<OwnedFd> {
    open_null_file().map_err(failed("sandbox.open", "cannot open /dev/null"))
}
