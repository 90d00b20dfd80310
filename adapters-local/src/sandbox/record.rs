//! What a machine's folder says about it.
//!
//! ```text
//! machines/OWNER/
//!   workspace        symbolic link whose target is the workspace's id: made with the folder, and atomic
//!   life.json        the last life: process, disk, control groups; a host crash ends every life, so it is not flushed
//!   sealed.json      the whole disk and its epoch; flushed before anything relies on it
//!   disk/            one folder per disk (`1`, `2`, …); owned by the machine's host user, which it records that way
//!   agent.sock       where the agent listens; not visible inside
//!   agent.log        what the agent wrote, bounded
//!   egress/          bound into the machine; proxy.sock is the server's egress proxy
//!   notices.jsonl    what was done to the machine and why, bounded
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::machine::{Epoch, MachineKey, MachineOwner};
use burstflare_ports::record::Workspace;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failed;

/// The last life of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// Its number.
    pub epoch: Epoch,
    /// The first process.
    pub pid: i32,
    /// When that started, in ticks after boot.
    pub started: u64,
    /// Which boot.
    pub boot: String,
    /// The disk it uses.
    pub disk: u64,
    /// Whether that was whole at the start.
    pub kept: bool,
    /// The upper bound of its disk, in bytes.
    pub disk_limit: u64,
    /// The upper bound of its memory, in bytes.
    pub memory_limit: u64,
    /// Whether its way out is the egress proxy.
    #[serde(default)]
    pub proxied: bool,
    /// Control groups to remove afterwards.
    #[serde(default)]
    pub groups: Vec<PathBuf>,
}

/// The disk on which a start may continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    /// The life that declared it whole.
    pub epoch: Epoch,
    /// The folder below `disk`.
    pub disk: u64,
}

/// A machine's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Whose.
    pub key: MachineKey,
}

impl Folder {
    /// The folder of a machine, where there is one.
    pub(crate) fn find(machines: &Path, owner: MachineOwner) -> Option<Self> {
        let path = machines.join(owner.to_string());
        let target = fs::read_link(path.join("workspace")).ok()?;
        let workspace: Id<Workspace> = target.to_str()?.parse().ok()?;
        Some(Self { path, key: MachineKey { workspace, owner } })
    }

    /// Finds or makes the folder of a machine.
    pub(crate) fn make(machines: &Path, key: MachineKey) -> PortResult<Self> {
        if let Some(folder) = Self::find(machines, key.owner) {
            return Ok(folder);
        }
        let path = machines.join(key.owner.to_string());
        private_folder(&path)
            .and_then(|()| match symlink(key.workspace.to_string(), path.join("workspace")) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                outcome => outcome,
            })
            .map_err(failed("machine.start", "cannot make the machine's folder"))?;
        Ok(Self { path, key })
    }

    /// The last life.
    pub(super) fn life(&self) -> Option<Life> {
        read(&self.path.join("life.json"))
    }

    /// Records a life, so that the next server finds it.
    pub(super) fn set_life(&self, life: &Life) -> PortResult<()> {
        write(&self.path, "life.json", life, Durable::No)
            .map_err(failed("machine.start", "cannot record the machine's life"))
    }

    /// The whole disk.
    pub(super) fn seal(&self) -> Option<Seal> {
        let seal: Seal = read(&self.path.join("sealed.json"))?;
        self.disk(seal.disk).is_dir().then_some(seal)
    }

    /// Records the whole disk, on stable storage.
    pub(super) fn set_seal(&self, seal: Seal) -> PortResult<()> {
        write(&self.path, "sealed.json", &seal, Durable::Yes)
            .map_err(failed("machine.seal", "cannot record the whole disk"))
    }

    /// The highest epoch seen.
    pub(super) fn epoch(&self) -> Epoch {
        let lived = self.life().map_or(0, |life| life.epoch);
        lived.max(self.seal().map_or(0, |seal| seal.epoch))
    }

    /// The folder of a disk.
    pub(super) fn disk(&self, number: u64) -> PathBuf {
        self.disks().join(number.to_string())
    }

    /// The folder of all disks.
    pub(super) fn disks(&self) -> PathBuf {
        self.path.join("disk")
    }

    /// Numbers of all disks.
    pub(super) fn disk_numbers(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(self.disks()) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The host user that the machine's disks belong to, once there are any.
    pub(super) fn host_user(&self) -> Option<u32> {
        fs::symlink_metadata(self.disks()).ok().map(|meta| meta.uid())
    }
}

/// Owners of all machine folders, in the order of their text.
pub(crate) fn owners(machines: &Path) -> PortResult<Vec<MachineOwner>> {
    let entries =
        fs::read_dir(machines).map_err(failed("machine.list", "cannot read the machines' folder"))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Makes a folder that only the server may enter; one that exists is fine.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether a file has to survive the host's crash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    No,
}

/// Reads a file of a machine's folder; `None` where there is none that is whole.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    // A file that a host crash left empty or torn counts as absent.
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Puts a file of a machine's folder in the place of the one before.
pub(crate) fn write<T: Serialize>(folder: &Path, name: &str, value: &T, durable: Durable) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if durable == Durable::Yes {
        file.sync_all()?;
    }
    fs::rename(&beside, folder.join(name))?;
    if durable == Durable::Yes {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
