//! What a machine sees: the new root, line by line.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::kernel::attr;
use super::plan::{Plan, Source, c};

/// The persisted roots: path inside, and the name of their folder on a disk.
pub(crate) const ROOTS: [(&str, &str); 2] = [("workspace", "workspace"), ("home/flare", "home-flare")];
/// The user inside.
pub(super) const USER: u32 = 1000;

/// Things of the host's `/etc` that programs need and that tell nothing: trust anchors, alternatives, the linker's tables.
const ETC: [&str; 8] = [
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "ca-certificates/extracted",
];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Shown as they are, but not for writing.
const PROC_READ_ONLY: [&str; 6] = ["sys", "sysrq-trigger", "bus", "fs", "irq", "pressure"];
/// Not shown at all: an empty file that may be neither read nor written lies over them.
const PROC_HIDDEN: [&str; 12] = [
    "kcore",
    "keys",
    "timer_list",
    "latency_stats",
    "sched_debug",
    "kallsyms",
    "cmdline",
    "config.gz",
    "iomem",
    "ioports",
    "diskstats",
    "partitions",
];
const PROC_HIDDEN_FOLDERS: [&str; 2] = ["acpi", "scsi"];

/// A folder of tools.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its name below the folder of tools.
    pub name: String,
    /// Where it is on the host.
    pub source: Source,
}

/// What differs between machines.
#[derive(Debug)]
pub(super) struct Rooms<'a> {
    /// Host name inside.
    pub hostname: &'a str,
    /// The disk's folder.
    pub disk: Source,
    /// The layer's folder, its files owned by the machine's user as the machine sees it.
    pub layer: Option<Source>,
    /// The folder of the egress proxy's socket.
    pub egress: Option<Source>,
    /// Tool folders.
    pub tools: Vec<Tool>,
    /// Whether the host's resolver may be used.
    pub host_names: bool,
    /// Bytes of memory the machine may use, which bounds its memory file systems.
    pub memory: u64,
}

const HIDDEN: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

/// Options of the new root's own tmpfs.
pub(super) const ROOT_OPTIONS: &str = "mode=0755,size=8m,nr_inodes=4096";

/// The plan of a machine's root.
pub(super) fn plan(rooms: Rooms<'_>) -> Plan {
    let mut plan = Plan::default();
    system(&mut plan);
    etc(&mut plan, rooms.hostname, rooms.host_names);
    devices(&mut plan, rooms.memory);
    plan.folder("run", 0o755);
    plan.folder("run/flare", 0o755);
    processes(&mut plan);
    plan.folder("var", 0o755);
    plan.link("var/tmp", "/tmp");
    plan.link("var/run", "/run");
    plan.mount("tmpfs", "tmp", QUIET, &sized("1777", rooms.memory / 2));
    plan.folder("run/user", 0o755);
    plan.mount("tmpfs", "run/user/1000", QUIET, &sized("0700", (rooms.memory / 8).min(64 << 20)));
    if let Some(egress) = rooms.egress {
        plan.folder("run/flare/egress", 0o755);
        plan.bind(egress, "run/flare/egress", attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC);
    }
    plan.folder("opt", 0o755);
    plan.folder("opt/flare", 0o755);
    plan.folder("opt/flare/tools", 0o755);
    for tool in rooms.tools {
        plan.bind_folder(tool.source, &format!("opt/flare/tools/{}", tool.name));
    }
    roots(&mut plan, rooms.disk, rooms.layer);
    plan.steps.push(super::plan::Step::Restrict { path: c("dev"), attributes: attr::RDONLY });
    plan.steps.push(super::plan::Step::Restrict { path: c("."), attributes: attr::RDONLY });
    plan
}

fn sized(mode: &str, bytes: u64) -> String {
    format!("mode={mode},size={},nr_inodes=262144", bytes.max(1 << 20))
}

fn host(path: impl AsRef<Path>) -> Source {
    Source::Path(c(path.as_ref().as_os_str().as_bytes()))
}

fn system(plan: &mut Plan) {
    plan.bind_folder(host("/usr"), "usr");
    for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
        let path = PathBuf::from("/").join(name);
        match fs::read_link(&path) {
            Ok(target) => plan.link(name, &target.to_string_lossy()),
            Err(_) if path.is_dir() => plan.bind_folder(host(&path), name),
            Err(_) => {}
        }
    }
}

fn etc(plan: &mut Plan, hostname: &str, host_names: bool) {
    plan.folder("etc", 0o755);
    plan.folder("etc/ssl", 0o755);
    let ssl = fs::read_dir("/etc/ssl").into_iter().flatten().flatten();
    // Private keys lie beside the trust anchors.
    for entry in ssl.filter(|entry| entry.file_name() != "private") {
        if let Some(name) = entry.file_name().to_str() {
            take(plan, &format!("ssl/{name}"));
        }
    }
    let mut parents = vec![String::from("ssl")];
    for name in ETC {
        if !Path::new("/etc").join(name).exists() {
            continue;
        }
        let above: Vec<&str> = name.split('/').collect();
        for depth in 1..above.len() {
            let parent = above.get(..depth).unwrap_or_default().join("/");
            if !parents.contains(&parent) {
                plan.folder(&format!("etc/{parent}"), 0o755);
                parents.push(parent);
            }
        }
        take(plan, name);
    }
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    plan.file(
        "etc/passwd",
        format!(
            "root:x:0:0:root:/root:/usr/sbin/nologin\nflare:x:{USER}:{USER}:flare:/home/flare:{shell}\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        ),
    );
    plan.file("etc/group", format!("root:x:0:\ntty:x:5:\nflare:x:{USER}:\nnogroup:x:65534:\n"));
    plan.file(
        "etc/hosts",
        format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost ip6-loopback\n"),
    );
    plan.file(
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    );
    let names = if host_names { fs::read("/etc/resolv.conf").ok() } else { None };
    plan.file(
        "etc/resolv.conf",
        names.unwrap_or_else(|| {
            b"# No name server: names are resolved by the egress proxy (HTTPS_PROXY).\n".to_vec()
        }),
    );
    plan.link("etc/os-release", "../usr/lib/os-release");
    plan.link("etc/mtab", "../proc/self/mounts");
}

/// Something of the host's `/etc`: links into /usr as links, the rest bound.
fn take(plan: &mut Plan, name: &str) {
    let from = Path::new("/etc").join(name);
    let inside = format!("etc/{name}");
    match fs::symlink_metadata(&from) {
        Ok(meta) if meta.is_symlink() => {
            if let Ok(target) = fs::read_link(&from) {
                plan.link(&inside, &target.to_string_lossy());
            }
        }
        Ok(meta) if meta.is_dir() => plan.bind_folder(host(&from), &inside),
        Ok(meta) if meta.is_file() => plan.bind_file(host(&from), &inside, HIDDEN),
        _ => {}
    }
}

fn devices(plan: &mut Plan, memory: u64) {
    plan.mount("tmpfs", "dev", libc::MS_NOSUID | libc::MS_NOEXEC, "mode=0755,size=64k,nr_inodes=64");
    for name in DEVICES {
        plan.bind_file(
            host(Path::new("/dev").join(name)),
            &format!("dev/{name}"),
            attr::NOSUID | attr::NOEXEC,
        );
    }
    // The kernel's pool of terminals is shared by all machines: one must not take it all.
    plan.mount(
        "devpts",
        "dev/pts",
        libc::MS_NOSUID | libc::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,max=256",
    );
    plan.link("dev/ptmx", "pts/ptmx");
    plan.mount("tmpfs", "dev/shm", QUIET | libc::MS_NOEXEC, &sized("1777", memory / 2));
    plan.link("dev/fd", "/proc/self/fd");
    for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
        plan.link(&format!("dev/{name}"), &format!("/proc/self/fd/{number}"));
    }
}

fn processes(plan: &mut Plan) {
    plan.mount("proc", "proc", QUIET | libc::MS_NOEXEC, "");
    // A bind of /dev/null would not do: it can be opened for writing.
    plan.folder("run/flare/hidden", 0o700);
    plan.folder("run/flare/hidden/folder", 0o555);
    plan.file("run/flare/hidden/file", Vec::new());
    let mut cover = |from: CString, path: &str| {
        plan.steps.push(super::plan::Step::Cover { from, path: c(path), attributes: HIDDEN });
    };
    for name in PROC_READ_ONLY {
        cover(c(format!("proc/{name}")), &format!("proc/{name}"));
    }
    for name in PROC_HIDDEN {
        cover(c("run/flare/hidden/file"), &format!("proc/{name}"));
    }
    for name in PROC_HIDDEN_FOLDERS {
        cover(c("run/flare/hidden/folder"), &format!("proc/{name}"));
    }
}

fn roots(plan: &mut Plan, disk: Source, layer: Option<Source>) {
    // Disk and layer are attached where the overlays can find them, and taken away again before anybody sees them.
    plan.folder("run/flare/stage", 0o700);
    plan.folder("run/flare/stage/disk", 0o700);
    plan.folder("run/flare/stage/layer", 0o755);
    plan.bind(disk, "run/flare/stage/disk", attr::NOSUID | attr::NODEV);
    let layered = layer.is_some();
    match layer {
        Some(layer) => plan.bind(layer, "run/flare/stage/layer", attr::RDONLY | attr::NOSUID | attr::NODEV),
        None => {
            plan.folder("run/flare/stage/layer/workspace", 0o755);
            plan.folder("run/flare/stage/layer/home", 0o755);
            plan.folder("run/flare/stage/layer/home/flare", 0o755);
        }
    }
    plan.folder("home", 0o755);
    for (path, name) in ROOTS {
        let options = format!(
            "lowerdir=run/flare/stage/layer/{path},upperdir=run/flare/stage/disk/{name}/upper,workdir=run/flare/stage/disk/{name}/work,userxattr"
        );
        plan.mount("overlay", path, QUIET, &options);
    }
    let detach = |path: &str| super::plan::Step::Detach { path: c(path) };
    plan.steps.push(detach("run/flare/stage/disk"));
    if layered {
        plan.steps.push(detach("run/flare/stage/layer"));
        plan.steps.push(super::plan::Step::Remove { path: c("run/flare/stage/layer") });
        plan.steps.push(super::plan::Step::Remove { path: c("run/flare/stage/disk") });
        plan.steps.push(super::plan::Step::Remove { path: c("run/flare/stage") });
    }
}
