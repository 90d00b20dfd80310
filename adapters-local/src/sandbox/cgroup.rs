//! Control groups: what the kernel holds a machine to. Version 2, or version 1 where that is mounted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burstflare_ports::machine::{Enforcement, Limits};

/// The period over which processor time is shared out, in microseconds.
const PERIOD: u64 = 100_000;
const FOLDER: &str = "burstflare";

/// The folders below which a machine's groups are made, by controller; absent where this server may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Groups {
    version_2: bool,
    cpu: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    /// Why some are missing.
    pub missing: Vec<String>,
}

impl Groups {
    /// Finds out what this server may do.
    pub(super) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::from_tables(&mounts, &own)
    }

    fn from_tables(mounts: &str, own: &str) -> Self {
        let own_path = |controller: &str| {
            own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, path) = (fields.next()?, fields.next()?);
                controllers
                    .split(',')
                    .any(|name| name == controller)
                    .then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let mut groups = Self::default();
        let mut unified = None;
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, place, kind, options, ..] = fields.as_slice() else { continue };
            match *kind {
                "cgroup2" => unified = own_path("").map(|path| Path::new(place).join(path)),
                "cgroup" => {
                    for (name, slot) in
                        [("cpu", &mut groups.cpu), ("memory", &mut groups.memory), ("pids", &mut groups.pids)]
                    {
                        if options.split(',').any(|option| option == name) {
                            *slot = own_path(name).map(|path| Path::new(place).join(path).join(FOLDER));
                        }
                    }
                }
                _ => {}
            }
        }
        if let (None, None, None, Some(unified)) = (&groups.cpu, &groups.memory, &groups.pids, unified) {
            return Self::unified(&unified);
        }
        groups.keep_usable();
        groups
    }

    /// Version 2: controllers have to be handed down, which the kernel allows only in a group without processes of
    /// its own (the root is exempt); so the server moves into a group beside the machines' where it is alone.
    fn unified(own: &Path) -> Self {
        let wanted = ["cpu", "memory", "pids"];
        let mut groups = Self { version_2: true, ..Self::default() };
        let enable = |folder: &Path| -> io::Result<()> {
            wanted
                .iter()
                .try_for_each(|name| fs::write(folder.join("cgroup.subtree_control"), format!("+{name}")))
        };
        let outcome = enable(own).or_else(|error| {
            let me = std::process::id().to_string();
            let processes = fs::read_to_string(own.join("cgroup.procs"))?;
            if error.raw_os_error() != Some(libc::EBUSY) || processes.lines().any(|line| line != me) {
                return Err(error);
            }
            let aside = own.join("burstflare-server");
            make(&aside)?;
            fs::write(aside.join("cgroup.procs"), &me)?;
            enable(own)
        });
        let machines = own.join(FOLDER);
        match outcome.and_then(|()| make(&machines)).and_then(|()| enable(&machines)) {
            Ok(()) => {
                groups.cpu = Some(machines.clone());
                groups.memory = Some(machines.clone());
                groups.pids = Some(machines);
            }
            Err(error) => groups.missing.push(format!("control groups below {}: {error}", own.display())),
        }
        groups
    }

    fn keep_usable(&mut self) {
        for (name, slot) in [("cpu", &mut self.cpu), ("memory", &mut self.memory), ("pids", &mut self.pids)] {
            let Some(folder) = slot else {
                self.missing.push(format!("control group of {name}: not mounted"));
                continue;
            };
            // The folder may be another server's, of another user.
            let trial = folder.join(format!("trial-{}", std::process::id()));
            let tried = make(folder).and_then(|()| make(&trial)).and_then(|()| fs::remove_dir(&trial));
            if let Err(error) = tried {
                self.missing.push(format!("control group of {name} at {}: {error}", folder.display()));
                *slot = None;
            }
        }
    }

    /// How far each limit holds; what no group enforces is left to resource limits and to watching.
    pub(super) fn enforcement(&self) -> BTreeMap<String, Enforcement> {
        let held = |slot: &Option<PathBuf>, otherwise| {
            if slot.is_some() { Enforcement::Enforced } else { otherwise }
        };
        BTreeMap::from([
            ("cpu".to_owned(), held(&self.cpu, Enforcement::None)),
            ("memory".to_owned(), held(&self.memory, Enforcement::Watched)),
            // Without a group RLIMIT_NPROC counts, which the kernel keeps by user and user namespace.
            ("pids".to_owned(), Enforcement::Enforced),
            ("disk".to_owned(), Enforcement::Watched),
        ])
    }

    /// Whether the kernel bounds memory.
    pub(super) fn bounds_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether a process enters groups quickest by itself, through their `tasks` (version 1).
    pub(super) fn lets_enter(&self) -> bool {
        !self.version_2
    }

    /// Makes a machine's groups with its limits.
    pub(super) fn create(&self, name: &str, limits: Limits) -> io::Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        let quota = u64::from(limits.cpu_millis).max(10) * PERIOD / 1000;
        let outcome = (|| {
            if let Some(folder) = self.group(&self.cpu, name, &mut made)? {
                if self.version_2 {
                    fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD}"))?;
                } else {
                    fs::write(folder.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                    fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string())?;
                }
            }
            if let Some(folder) = self.group(&self.memory, name, &mut made)? {
                let memory = limits.memory.to_string();
                // Swap accounting is optional in kernels.
                if self.version_2 {
                    fs::write(folder.join("memory.max"), memory)?;
                    let _ = fs::write(folder.join("memory.swap.max"), "0");
                } else {
                    fs::write(folder.join("memory.limit_in_bytes"), &memory)?;
                    let _ = fs::write(folder.join("memory.memsw.limit_in_bytes"), &memory);
                }
            }
            if let Some(folder) = self.group(&self.pids, name, &mut made)? {
                fs::write(folder.join("pids.max"), limits.pids.max(16).to_string())?;
            }
            Ok(())
        })();
        match outcome {
            Ok(()) => Ok(made),
            Err(error) => {
                remove(&made);
                Err(error)
            }
        }
    }

    fn group(
        &self,
        slot: &Option<PathBuf>,
        name: &str,
        made: &mut Vec<PathBuf>,
    ) -> io::Result<Option<PathBuf>> {
        let Some(folder) = slot.as_ref().map(|folder| folder.join(name)) else { return Ok(None) };
        if !made.contains(&folder) {
            // One that an earlier life left keeps limits that can stand in the way of new ones.
            let _ = fs::remove_dir(&folder);
            make(&folder)?;
            made.push(folder.clone());
        }
        Ok(Some(folder))
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// Puts a process into groups.
pub(super) fn enter(groups: &[PathBuf], pid: i32) -> io::Result<()> {
    groups.iter().try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
}

/// Removes groups whose processes have ended. One that is still busy is removed with the machine's next life.
pub(super) fn remove(groups: &[PathBuf]) {
    for folder in groups {
        let _ = fs::remove_dir(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_nests_below_the_servers_own_groups() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().display();
        for name in ["cpu/outer", "memory/a/b"] {
            fs::create_dir_all(folder.path().join(name)).expect("folder");
        }
        let mounts = format!(
            "cgroup {root}/cpu cgroup rw,cpu 0 0\ncgroup {root}/memory cgroup rw,relatime,memory 0 0\n\
             cgroup2 {root}/unified cgroup2 rw 0 0\n"
        );
        let groups = Groups::from_tables(&mounts, "4:memory:/a/b\n1:cpu,cpuacct:/outer\n0::/\n");
        assert!(!groups.version_2);
        assert_eq!(groups.memory, Some(folder.path().join("memory/a/b/burstflare")));
        assert_eq!(groups.cpu, Some(folder.path().join("cpu/outer/burstflare")));
        assert_eq!(groups.pids, None);
        assert_eq!(groups.missing.len(), 1);
        let limits = Limits { cpu_millis: 1500, memory: 1 << 30, disk: 0, pids: 100 };
        let made = groups.create("ses", limits).expect("made");
        assert_eq!(made.len(), 2);
        let quota = fs::read_to_string(folder.path().join("cpu/outer/burstflare/ses/cpu.cfs_quota_us"));
        assert_eq!(quota.expect("quota"), "150000");
    }

    #[test]
    fn version_2_hands_controllers_down() {
        let folder = tempfile::tempdir().expect("folder");
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", folder.path().display());
        fs::create_dir_all(folder.path().join("user.slice")).expect("folder");
        let groups = Groups::from_tables(&mounts, "0::/user.slice\n");
        assert!(groups.version_2);
        assert_eq!(groups.missing, Vec::<String>::new());
        let limits = Limits { cpu_millis: 500, memory: 1 << 20, disk: 0, pids: 100 };
        let made = groups.create("ses", limits).expect("made");
        assert_eq!(made, [folder.path().join("user.slice/burstflare/ses")]);
        assert_eq!(fs::read_to_string(made[0].join("cpu.max")).expect("max"), "50000 100000");
        assert_eq!(fs::read_to_string(made[0].join("pids.max")).expect("max"), "100");
    }
}
