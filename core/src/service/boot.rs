//! What every machine is told when it starts.

use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::VersionSpec;
use burstflare_ports::secret::Secret;
use burstflare_ports::wire::{Boot, PROTOCOL, run_folder};

/// Where shells and commands begin.
pub(super) const WORKSPACE: &str = "/workspace";
/// The user's home.
pub(super) const HOME: &str = "/home/flare";

/// What an agent is told at its start.
pub(super) fn boot(target: &AgentTarget, host_seed: String, hostname: &str, spec: &VersionSpec) -> Boot {
    Boot {
        protocol: PROTOCOL,
        machine: target.machine.owner.to_string(),
        epoch: target.epoch,
        key: target.key.clone(),
        ssh_host_seed: Secret::new(host_seed),
        hostname: hostname.to_owned(),
        roots: vec![WORKSPACE.to_owned(), HOME.to_owned()],
        home: HOME.to_owned(),
        env: spec.env.clone(),
        on_start: spec.on_start.clone(),
        egress: None,
        path: Vec::new(),
        run: run_folder(),
    }
}
