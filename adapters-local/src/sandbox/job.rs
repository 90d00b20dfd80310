//! What a start hands to the child, apart from what is below its root.

use std::path::{Path, PathBuf};

use burstflare_ports::machine::Limits;
use burstflare_ports::wire;

use super::child::{Job, Report};
use super::config::NetworkMode;
use super::layout::{self, USER};
use super::plan::{Descriptors, Plan, ResourceLimit, c};
use super::seccomp;

/// What differs between starts.
#[derive(Debug)]
pub(super) struct Order<'a> {
    /// The host user, where the server is root.
    pub owner: Option<u32>,
    /// The way out, which decides on the network namespace.
    pub network: NetworkMode,
    /// What is below the root.
    pub plan: Plan,
    /// Host name inside.
    pub hostname: &'a str,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// Descriptors.
    pub fds: Descriptors,
    /// Control groups that it enters by itself.
    pub enters: &'a [PathBuf],
}

/// The job of an order.
pub(super) fn job(order: Order<'_>) -> Box<Job> {
    let network = match order.network {
        NetworkMode::Host => 0,
        NetworkMode::Proxy | NetworkMode::Pasta => libc::CLONE_NEWNET,
    };
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Any folder that is there will do: the new root is mounted over it where only the child sees it.
    let staging =
        ["/tmp", "/mnt", "/var"].into_iter().find(|folder| Path::new(folder).is_dir()).unwrap_or("/usr");
    let tasks = order.enters.iter().map(|folder| c(folder.join("tasks").as_os_str().as_encoded_bytes()));
    Box::new(Job {
        tasks: tasks.collect(),
        host_user: order.owner,
        uid_map: c(format!("{USER} {} 1", order.owner.unwrap_or(user))),
        gid_map: c(format!("{USER} {} 1", order.owner.unwrap_or(group))),
        namespaces: libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | network,
        staging: c(staging),
        root_options: c(layout::ROOT_OPTIONS),
        plan: order.plan,
        taken: Vec::new(),
        hostname: c(order.hostname),
        limits: order.limits,
        fds: order.fds,
        filter: seccomp::filter(),
        argv0: c(wire::AGENT_ARGV0),
        second_stack: std::ptr::null_mut(),
        report: Report::default(),
    })
}

/// The resource limits of a machine: what every one gets, and what stands in for control groups.
pub(super) fn resource_limits(limits: Limits, memory_is_bounded: bool) -> Vec<ResourceLimit> {
    let both = |resource, value| ResourceLimit { resource, soft: value, hard: value };
    let mut all = vec![
        // One byte, for a core_pattern that pipes heeds no zero (core(5)), and nobody may raise it again.
        ResourceLimit { resource: libc::RLIMIT_CORE, soft: 1, hard: 1 },
        ResourceLimit { resource: libc::RLIMIT_NOFILE, soft: 65_536, hard: 524_288 },
        // Counted by user and user namespace: this machine's own. It stands also where no control group does.
        both(libc::RLIMIT_NPROC, u64::from(limits.pids.max(16))),
    ];
    if !memory_is_bounded {
        // Holds one process; the sum of all is watched.
        all.push(both(libc::RLIMIT_DATA, limits.memory));
    }
    all
}
