//! What our objects in the engine are called, and how they are found again.

use std::collections::HashMap;

use burstflare_ports::machine::{Epoch, MachineKey, MachineOwner};

const DEPLOYMENT: &str = "dev.burstflare.deployment";
const WORKSPACE: &str = "dev.burstflare.workspace";
const OWNER: &str = "dev.burstflare.owner";
const EPOCH: &str = "dev.burstflare.epoch";
const DISK: &str = "dev.burstflare.disk";

/// Labels as the engine takes and gives them.
pub(super) type Labels = HashMap<String, String>;

/// Tells the deployments apart that use one engine.
#[derive(Debug, Clone)]
pub(super) struct Deployment(pub String);

impl Deployment {
    fn of(&self, machine: MachineKey) -> Labels {
        Labels::from([
            (DEPLOYMENT.to_owned(), self.0.clone()),
            (WORKSPACE.to_owned(), machine.workspace.to_string()),
            (OWNER.to_owned(), machine.owner.to_string()),
        ])
    }

    /// Of a container.
    pub(super) fn container(&self, machine: MachineKey, epoch: Epoch) -> Labels {
        let mut labels = self.of(machine);
        labels.insert(EPOCH.to_owned(), epoch.to_string());
        labels
    }

    /// Of a volume.
    pub(super) fn volume(&self, machine: MachineKey, disk: u64) -> Labels {
        let mut labels = self.of(machine);
        labels.insert(DISK.to_owned(), disk.to_string());
        labels
    }

    /// The filter for everything of this deployment, or of one machine in it.
    pub(super) fn filter(&self, owner: Option<MachineOwner>) -> HashMap<String, Vec<String>> {
        let mut labels = vec![format!("{DEPLOYMENT}={}", self.0)];
        labels.extend(owner.map(|owner| format!("{OWNER}={owner}")));
        HashMap::from([("label".to_owned(), labels)])
    }

    /// Name of a container: one for each life, so that two can never run.
    pub(super) fn container_name(&self, machine: MachineKey, epoch: Epoch) -> String {
        format!("flare-{}-{}-{epoch}", self.0, machine.owner)
    }

    /// Name of one root's volume on a disk.
    pub(super) fn volume_name(&self, machine: MachineKey, disk: u64, root: &str) -> String {
        format!("flare-{}-{}-{disk}-{root}", self.0, machine.owner)
    }
}

/// Whose an object is; `None` for labels that are not ours.
pub(super) fn machine(labels: &Labels) -> Option<MachineKey> {
    Some(MachineKey {
        workspace: labels.get(WORKSPACE)?.parse().ok()?,
        owner: labels.get(OWNER)?.parse().ok()?,
    })
}

/// The life of a container.
pub(super) fn epoch(labels: &Labels) -> Option<Epoch> {
    labels.get(EPOCH)?.parse().ok()
}

/// The disk of a volume.
pub(super) fn disk(labels: &Labels) -> Option<u64> {
    labels.get(DISK)?.parse().ok()
}
