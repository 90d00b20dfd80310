//! What a container is made from.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    ResourcesUlimits,
};
use burstflare_ports::machine::{Limits, MachineSpec};

use super::engine::Facts;
use super::labels::Deployment;
use crate::machine::tools::ToolFolder;
use crate::machine::{EGRESS_SOCKET, TOOLS};
use crate::sandbox::layout::ROOTS;

/// Ours alone inside: the agent closes it to the user.
const AGENT: &str = "/.flare/agent";
const RUN: &str = "/.flare/run";
/// Where the agent listens, inside.
const SOCKET: &str = "/.flare/run/agent.sock";
/// What the agent needs of root's power to make its folders and to become the user: a part of the engine's own set, and
/// nothing of it is left when the first process of the user begins.
const CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETPCAP", "SETUID"];
/// Bytes of the agent's log that the engine keeps.
const LOG: &str = "1m";

/// What of the host goes into a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// The agent's program.
    pub agent: &'a Path,
    /// The folder of its socket.
    pub run: &'a Path,
    /// The folder of the way out.
    pub egress: &'a Path,
    /// Tools.
    pub tools: &'a [ToolFolder],
}

/// The container of a life.
pub(super) fn body(
    deployment: &Deployment,
    facts: &Facts,
    image: &str,
    spec: &MachineSpec,
    disk: u64,
    parts: Parts<'_>,
) -> ContainerCreateBody {
    let bind = |source: &Path, target: &str, read_only| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let egress = EGRESS_SOCKET.rsplit_once('/').map_or(EGRESS_SOCKET, |(folder, _)| folder);
    let mut mounts =
        vec![bind(parts.agent, AGENT, true), bind(parts.run, RUN, false), bind(parts.egress, egress, true)];
    mounts.extend(parts.tools.iter().map(|tool| bind(&tool.folder, &format!("{TOOLS}/{}", tool.name), true)));
    mounts.extend(ROOTS.iter().map(|(path, name)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(deployment.volume_name(spec.machine, disk, name)),
        target: Some(format!("/{path}")),
        volume_options: Some(MountVolumeOptions {
            // What the image has there stays out, as in the sandbox: the layer and the disk say what is there.
            no_copy: Some(true),
            labels: Some(deployment.volume(spec.machine, disk)),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }));
    ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname: Some(spec.hostname.clone()),
        // The image's own user is nobody here: the agent becomes uid 1000.
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        entrypoint: Some(vec![AGENT.to_owned(), "container".to_owned(), SOCKET.to_owned()]),
        cmd: Some(Vec::new()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        labels: Some(deployment.container(spec.machine, spec.epoch)),
        host_config: Some(HostConfig { mounts: Some(mounts), ..host(facts, spec.limits) }),
        ..ContainerCreateBody::default()
    }
}

fn host(facts: &Facts, limits: Limits) -> HostConfig {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let memory = facts.memory.then(|| signed(limits.memory.max(16 << 20)));
    let cpu = u64::from(limits.cpu_millis.max(10)).min(facts.processors.saturating_mul(1000));
    let tmpfs = |options: &str| format!("rw,nosuid,nodev,{options}");
    HostConfig {
        memory,
        // Both together: no swap beyond the memory.
        memory_swap: memory.filter(|_| facts.swap),
        nano_cpus: facts.cpu.then(|| signed(cpu * 1_000_000)),
        pids_limit: facts.pids.then(|| i64::from(limits.pids.max(16))),
        ulimits: Some(vec![ResourcesUlimits { name: Some("core".to_owned()), soft: Some(0), hard: Some(0) }]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.iter().map(|name| (*name).to_owned()).collect()),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        // A network of its own with loopback alone. The way out is the proxy's socket.
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        tmpfs: Some(HashMap::from([
            ("/tmp".to_owned(), tmpfs(&format!("exec,mode=1777,size={}", limits.memory / 2))),
            ("/run/user/1000".to_owned(), tmpfs("mode=0700,uid=1000,gid=1000,size=16m")),
        ])),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG.to_owned()),
                ("max-file".to_owned(), "1".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_ask_for_no_more_than_the_engine_can_give() {
        let limits = Limits { cpu_millis: 8000, memory: 1 << 30, disk: 0, pids: 100 };
        let able =
            Facts { processors: 2, cpu: true, memory: true, swap: true, pids: true, ..Facts::default() };
        let given = host(&able, limits);
        assert_eq!(given.nano_cpus, Some(2_000_000_000));
        assert_eq!(
            (given.memory, given.memory_swap, given.pids_limit),
            (Some(1 << 30), Some(1 << 30), Some(100))
        );
        let unable = host(&Facts { processors: 2, ..Facts::default() }, limits);
        assert_eq!((unable.nano_cpus, unable.memory, unable.pids_limit), (None, None, None));
        assert_eq!((given.network_mode.as_deref(), given.privileged), (Some("none"), None));
    }
}
