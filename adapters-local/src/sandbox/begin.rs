//! One start, from the specification to the boot message. Blocks for the milliseconds it takes.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{DiskState, MachineSpec};
use burstflare_ports::wire::{self, Boot};
use rustix::fs::{Mode, OFlags};

use super::config::NetworkMode;
use super::job::{self, Order};
use super::kernel::{self, attr};
use super::layout::{self, Rooms, Tool};
use super::plan::{Descriptors, Source, c};
use super::process::{self, Process};
use super::record::{Folder, Life};
use super::runtime::Inner;
use super::{cgroup, copy, disk, failed, spawn};
use crate::machine::tools::ToolFolder;
use crate::machine::{EGRESS_SOCKET, egress, socket};

/// A machine that was just started.
#[derive(Debug)]
pub(super) struct Begun {
    pub folder: Folder,
    pub life: Life,
    pub process: Process,
    pub proxy: Option<UnixListener>,
    pub disk: DiskState,
}

const START: &str = "machine.start";

impl Inner {
    /// Starts a machine. The caller holds its turn, has seen that no life of it goes on, and has made the layer ready.
    pub(super) fn begin(&self, spec: MachineSpec, layer: Option<&Path>) -> PortResult<Begun> {
        let folder = Folder::make(&self.machines, spec.machine)?;
        let owner = self.host_user(&folder)?;
        let chosen = disk::choose(&folder, spec.disk, owner, layer, &self.trash)?;
        let (boot_read, boot_write) = pipe().map_err(failed(START, "cannot make the boot pipe"))?;
        let agent = socket::listen(&folder.path, "agent.sock", 0o600)
            .map_err(failed(START, "cannot listen for the agent"))?;
        let proxy = match self.config.network {
            NetworkMode::Proxy => Some(self.listen_egress(&folder)?),
            NetworkMode::Host | NetworkMode::Pasta => None,
        };
        let copied = match (layer, owner) {
            (Some(layer), Some(user)) if !self.maps_owners => Some(
                copy::own_copy(&folder, layer, user, &self.trash)
                    .map_err(failed(START, "cannot copy the layer"))?,
            ),
            _ => None,
        };
        let layer = copied.as_deref().or(layer);
        let boot = self.boot(spec.boot)?;
        let log = open_log(&folder.path).map_err(failed(START, "cannot open the agent's log"))?;
        let rooms = self.rooms(&folder, &spec.hostname, owner, chosen.number, layer, spec.limits.memory)?;
        let fds = Descriptors {
            exe: self.exe.as_raw_fd(),
            boot: boot_read.as_raw_fd(),
            socket: agent.as_raw_fd(),
            null: self.null.as_raw_fd(),
            log: log.as_raw_fd(),
        };
        let groups = self
            .groups
            .create(&spec.machine.owner.to_string(), spec.limits)
            .map_err(failed(START, "cannot make the machine's control groups"))?;
        // Whoever may not change users is started in one step, and moved afterwards.
        let born_inside = owner.is_some() && self.groups.lets_enter();
        let (enters, outside): (&[PathBuf], &[PathBuf]) =
            if born_inside { (&groups, &[]) } else { (&[], &groups) };
        let job = job::job(Order {
            owner,
            network: self.config.network,
            plan: layout::plan(rooms),
            hostname: &spec.hostname,
            limits: job::resource_limits(spec.limits, self.groups.bounds_memory()),
            fds,
            enters,
        });
        let pid = spawn::run(job).map_err(PortError::from).inspect_err(|_| cgroup::remove(&groups))?;
        let tell = || -> PortResult<(Process, Life)> {
            cgroup::enter(outside, pid)
                .map_err(failed(START, "cannot put the machine into its control groups"))?;
            let process =
                Process::of_child(pid).map_err(failed(START, "cannot hold the machine's process"))?;
            let life = Life {
                epoch: spec.epoch,
                pid,
                started: process.started(),
                boot: process::boot_id(),
                disk: chosen.number,
                kept: chosen.state == DiskState::Kept,
                disk_limit: spec.limits.disk,
                memory_limit: spec.limits.memory,
                proxied: proxy.is_some(),
                groups: groups.clone(),
            };
            // From here on the next server finds the machine; only now is the agent told to live.
            folder.set_life(&life)?;
            fs::File::from(boot_write)
                .write_all(&boot)
                .map_err(failed(START, "the agent ended before it was told what to do"))?;
            Ok((process, life))
        };
        let (process, life) = tell().inspect_err(|_| {
            spawn::kill_and_reap(pid);
            cgroup::remove(&groups);
        })?;
        Ok(Begun { folder, life, process, proxy, disk: chosen.state })
    }

    fn host_user(&self, folder: &Folder) -> PortResult<Option<u32>> {
        if !self.root {
            return Ok(None);
        }
        match folder.host_user() {
            // Only its own folder says so; 0 is what a crash between making it and giving it away leaves.
            None | Some(0) => self.users.take().map(Some),
            Some(user) if self.config.users.holds(user) => Ok(Some(user)),
            // A server that was not root made it: as that user, machines would be more than they are now.
            Some(user) => Err(PortError::new(
                ErrorKind::Denied,
                START,
                format!("the machine's disk belongs to host user {user}: run the server as that user"),
            )),
        }
    }

    /// Listens where the machine's proxy is expected.
    pub(super) fn listen_egress(&self, folder: &Folder) -> PortResult<UnixListener> {
        egress::listen(&folder.path)
            .map_err(failed("machine.egress", "cannot listen for the machine's way out"))
    }

    fn boot(&self, mut boot: Boot) -> PortResult<Vec<u8>> {
        if self.config.network == NetworkMode::Proxy {
            boot.egress =
                Some(wire::Egress { listen: "127.0.0.1:3128".to_owned(), socket: EGRESS_SOCKET.to_owned() });
        }
        let mut path: Vec<String> = self.tools.iter().map(ToolFolder::path_inside).collect();
        path.append(&mut boot.path);
        boot.path = path;
        let message = serde_json::to_vec(&boot).map_err(|error| {
            PortError::new(ErrorKind::Internal, START, "cannot write the boot message").with_source(error)
        })?;
        if message.len() > wire::BOOT_LIMIT {
            return Err(PortError::new(ErrorKind::TooLarge, START, "the boot message is over its limit"));
        }
        Ok(message)
    }

    fn rooms<'a>(
        &self,
        folder: &Folder,
        hostname: &'a str,
        owner: Option<u32>,
        disk: u64,
        layer: Option<&Path>,
        memory: u64,
    ) -> PortResult<Rooms<'a>> {
        let disk = self.source(&folder.disk(disk), attr::NOSUID | attr::NODEV)?;
        let layer = layer.map(|layer| self.layer_source(layer, owner)).transpose()?;
        let hidden = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let egress = match self.config.network {
            NetworkMode::Proxy => Some(self.source(&folder.path.join("egress"), hidden)?),
            NetworkMode::Host | NetworkMode::Pasta => None,
        };
        let tools = self.tools.iter().map(|tool| {
            let source = self.source(&tool.folder, attr::RDONLY | attr::NOSUID | attr::NODEV)?;
            Ok(Tool { name: tool.name.clone(), source })
        });
        Ok(Rooms {
            hostname,
            disk,
            layer,
            egress,
            tools: tools.collect::<PortResult<_>>()?,
            host_names: self.config.network == NetworkMode::Host,
            memory,
        })
    }

    /// Something that only the server may be able to reach: the machine's user is another one when the server is root.
    pub(super) fn source(&self, path: &Path, attributes: u64) -> PortResult<Source> {
        if !self.root {
            return Ok(Source::Path(c(path.as_os_str().as_encoded_bytes())));
        }
        self.mount_of(path, attributes).map(Source::Mount)
    }

    fn mount_of(&self, path: &Path, attributes: u64) -> PortResult<OwnedFd> {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|folder| kernel::detached(folder.as_raw_fd(), attributes))
            .map_err(failed(START, format!("cannot bind {}", path.display())))
    }

    /// A layer, its files shown as the machine's own.
    fn layer_source(&self, layer: &Path, owner: Option<u32>) -> PortResult<Source> {
        let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV;
        let Some(user) = owner.filter(|_| self.maps_owners) else { return self.source(layer, attributes) };
        let mount = self.mount_of(layer, attributes)?;
        self.maps
            .of(self.config.users.layers, user)
            .and_then(|map| kernel::map_owners(&mount, &map))
            .map_err(failed(START, "the kernel does not map the layer's owner"))?;
        Ok(Source::Mount(mount))
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // The whole message has to fit, so that writing it waits for nobody. Where this is refused it fits nearly always.
    let _ = rustix::pipe::fcntl_setpipe_size(&write, wire::BOOT_LIMIT);
    Ok((read, write))
}

fn open_log(folder: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join("agent.log"))
}
