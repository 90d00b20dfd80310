//! Which processes are a machine's, and how much they have done.

use std::fs;
use std::path::PathBuf;

/// A machine's processes, told by their process namespace.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    agent: i32,
    /// None where it has none of its own: then nothing of it can be told from the host's processes.
    namespace: Option<PathBuf>,
}

impl Machine {
    pub(super) fn of(agent: i32) -> Self {
        let own = namespace(std::process::id().cast_signed());
        let foreign = |found: &PathBuf| own.as_ref().is_some_and(|own| own != found);
        Self { agent, namespace: namespace(agent).filter(foreign) }
    }

    pub(super) fn holds(&self, pid: i32) -> bool {
        self.namespace.is_some() && namespace(pid) == self.namespace
    }

    /// Those who descend from the agent, which as process 1 everybody in the machine does. It costs what the machine
    /// is large, not what the host is; who forks meanwhile may be missed, so it is for measuring, not for ending.
    pub(super) fn descendants(&self) -> Vec<i32> {
        if self.namespace.is_none() || !self.holds(self.agent) {
            return Vec::new();
        }
        let mut family = vec![self.agent];
        let mut at = 0;
        while let Some(parent) = family.get(at) {
            family.extend(children(*parent));
            at += 1;
        }
        family.split_off(1)
    }

    /// Whether nothing runs in it but its agent, for certain.
    pub(super) fn is_a_lone_agent(&self) -> bool {
        self.namespace.is_some() && children(self.agent).is_empty()
    }

    /// Processor time that the machine has used, in ticks of the kernel, where nothing runs in it but its agent.
    /// Those who have ended count with the agent, their heir.
    pub(super) fn effort_of_a_lone_agent(&self) -> Option<u64> {
        if !self.is_a_lone_agent() {
            return None;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.agent)).ok()?;
        // proc_pid_stat(5): after the name in parentheses, fields 14 to 17 are utime, stime, cutime and cstime.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum()
    }

    /// Its processes besides the agent, as the host numbers them.
    pub(super) fn processes(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != self.agent && self.holds(*pid))
            .collect()
    }
}

fn children(parent: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}
