//! What a machine's folder says about it.
//!
//! ```text
//! machines/OWNER/
//!   workspace        symbolic link whose target is the workspace's id, as in the sandbox
//!   container.json   the last life and how far it is
//!   whole.json       the whole disk and its epoch; flushed before anything relies on it
//!   run/             bound into the container; agent.sock is where its agent listens
//!   egress/          bound into the container; proxy.sock is the server's egress proxy
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{Epoch, MachineOwner};
use serde::{Deserialize, Serialize};

use super::labels::Deployment;
use crate::sandbox::failed;
use crate::sandbox::record::{Durable, read, write};
pub(super) use crate::sandbox::record::{Folder, owners, private_folder};

const LIFE: &str = "container.json";
const WHOLE: &str = "whole.json";

/// The last life of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// Its number.
    pub epoch: Epoch,
    /// The disk it uses.
    pub disk: u64,
    /// Whether that was whole at the start.
    pub kept: bool,
    /// Whether its start was carried out to the end; one that was cut off is begun anew.
    pub begun: bool,
}

/// The disk on which a start may continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whole {
    /// The life that declared it whole.
    pub epoch: Epoch,
    /// Its number.
    pub disk: u64,
}

/// The last life.
pub(super) fn life(folder: &Folder) -> Option<Life> {
    read(&folder.path.join(LIFE))
}

/// Records a life.
pub(super) fn set_life(folder: &Folder, life: Life) -> PortResult<()> {
    write(&folder.path, LIFE, &life, Durable::No)
        .map_err(failed("machine.start", "cannot record the machine's life"))
}

/// The whole disk.
pub(super) fn whole(folder: &Folder) -> Option<Whole> {
    read(&folder.path.join(WHOLE))
}

/// Records the whole disk, on stable storage.
pub(super) fn set_whole(folder: &Folder, whole: Whole) -> PortResult<()> {
    write(&folder.path, WHOLE, &whole, Durable::Yes)
        .map_err(failed("machine.seal", "cannot record the whole disk"))
}

/// Refuses machines of the process sandbox: their disks are folders that containers do not have.
pub(super) fn refuse_sandbox(machines: &Path) -> PortResult<()> {
    let other = |owner: &MachineOwner| machines.join(owner.to_string()).join("life.json").exists();
    match owners(machines)?.iter().find(|owner| other(owner)) {
        Some(owner) => Err(PortError::new(
            ErrorKind::Conflict,
            "docker.open",
            format!(
                "{owner} lives in the process sandbox: delete the sessions of this data folder there first"
            ),
        )),
        None => Ok(()),
    }
}

/// The highest epoch seen.
pub(super) fn epoch(folder: &Folder) -> Epoch {
    let lived = life(folder).map_or(0, |life| life.epoch);
    lived.max(whole(folder).map_or(0, |whole| whole.epoch))
}

/// The folder in which the agent listens.
pub(super) fn run_folder(folder: &Path) -> PathBuf {
    folder.join("run")
}

/// Makes that folder. The machine's own folder lets nobody pass but the server; inside, the agent hides it.
pub(super) fn make_run_folder(folder: &Folder) -> PortResult<PathBuf> {
    let run = run_folder(&folder.path);
    let made = || {
        match fs::create_dir(&run) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Root of the container may be any user of the host.
        fs::set_permissions(&run, fs::Permissions::from_mode(0o777))?;
        match fs::remove_file(run.join("agent.sock")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    made().map_err(failed("machine.start", "cannot make the folder of the agent's socket"))?;
    Ok(run)
}

/// The deployment's name among those that use one engine: made once, kept in the data folder.
pub(super) fn deployment(data_dir: &Path) -> PortResult<Deployment> {
    let path = data_dir.join("deployment");
    let error = |error: io::Error| failed::<io::Error>("docker.open", "cannot name the deployment")(error);
    match fs::read_to_string(&path) {
        Ok(name) if name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            return Ok(Deployment(name));
        }
        Ok(_) => {
            return Err(error(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file `deployment` is damaged",
            )));
        }
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {}
        Err(problem) => return Err(error(problem)),
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|problem| error(io::Error::other(problem.to_string())))?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let beside = data_dir.join("deployment.new");
    let written = || {
        fs::write(&beside, &name)?;
        fs::File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &path)?;
        fs::File::open(data_dir)?.sync_all()
    };
    written().map_err(error)?;
    Ok(Deployment(name))
}
