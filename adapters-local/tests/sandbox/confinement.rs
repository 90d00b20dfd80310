//! What a machine can neither see nor do: one trial per line of the design's list.

use std::net::TcpListener;

use burstflare_ports::wire::ExecOutput;

use crate::Body as Trial;
use crate::world::{PROBE, World};

pub(crate) fn trials() -> Vec<(&'static str, Trial)> {
    vec![
        ("user_without_capabilities", || Box::pin(privileges())),
        ("namespaces_are_its_own", || Box::pin(namespaces())),
        ("the_root_holds_nothing_else", || Box::pin(root_folder())),
        ("only_the_roots_and_memory_can_be_written", || Box::pin(writable())),
        ("kernel_settings_cannot_be_opened_for_writing", || Box::pin(kernel_settings())),
        ("devices_are_the_harmless_ones", || Box::pin(devices())),
        ("the_hosts_secrets_are_not_there", || Box::pin(host_secrets())),
        ("the_agent_cannot_be_read", || Box::pin(agent_secrets())),
        ("processes_of_the_machine_can_be_traced", || Box::pin(tracing())),
        ("each_refused_call_answers_as_promised", || Box::pin(refused_calls())),
        ("calls_of_other_architectures_are_killed", || Box::pin(foreign_calls())),
        ("two_machines_serve_the_same_port", || Box::pin(same_port())),
        ("the_hosts_loopback_is_out_of_reach", || Box::pin(host_loopback())),
        ("machines_do_not_see_each_other", || Box::pin(strangers())),
        ("no_descriptor_of_the_server_is_inherited", || Box::pin(descriptors())),
        ("names_and_certificates_are_there", || Box::pin(lookups())),
        ("terminals_work", || Box::pin(terminals())),
    ]
}

/// What a probe has to print: any refusal, but a refusal.
fn assert_refused(what: &str, outcome: &str) {
    assert!(outcome.starts_with("errno "), "{what}: {outcome}");
}

async fn privileges() {
    let world = World::new().await;
    let machine = world.machine().await;
    for process in ["self", "1"] {
        let status = world.shell(machine, &format!("cat /proc/{process}/status")).await;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_ascii_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(name), "0000000000000000", "{process} {name}");
        }
        assert_eq!(field("NoNewPrivs:"), "1", "{process}");
        assert_eq!(field("Seccomp:"), "2", "{process}");
        assert_eq!(field("Uid:"), "1000 1000 1000 1000", "{process}");
        assert_eq!(field("Gid:"), "1000 1000 1000 1000", "{process}");
    }
    // Nobody else is mapped, host root least of all.
    let host = rustix::process::geteuid().as_raw();
    let map = world.shell(machine, "cat /proc/self/uid_map /proc/self/gid_map").await;
    let numbers: Vec<u32> =
        map.split_ascii_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!(
        (numbers.len(), numbers[0], numbers[2], numbers[3], numbers[5]),
        (6, 1000, 1, 1000, 1),
        "{map}"
    );
    if crate::world::is_root() {
        assert!(numbers[1] >= 231_072 && numbers[4] == numbers[1], "{map}");
        let other = world.machine().await;
        let theirs = world.shell(other, "cat /proc/self/uid_map").await;
        assert_ne!(theirs, map.lines().next().unwrap_or_default(), "each machine has a host user of its own");
    } else {
        assert_eq!(numbers[1], host, "{map}");
    }
    assert_eq!(world.shell(machine, "cat /proc/self/setgroups").await, "deny");
}

async fn namespaces() {
    let world = World::new().await;
    let machine = world.machine().await;
    for name in ["user", "mnt", "pid", "ipc", "uts", "net"] {
        let here = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace");
        let there = world.shell(machine, &format!("readlink /proc/self/ns/{name}")).await;
        assert_ne!(there, here.to_string_lossy(), "{name}");
    }
    // The agent is process 1, and no process of the host is seen.
    let seen = world.shell(machine, "ls /proc | grep -c '^[0-9]'").await;
    assert!(seen.parse::<u32>().expect("a number") < 10, "{seen}");
    assert_eq!(world.shell(machine, "tr -d '\\0' < /proc/1/cmdline").await, "flare-agent");
}

async fn root_folder() {
    let world = World::new().await;
    let machine = world.machine().await;
    let names = world.shell(machine, "ls -A /").await;
    let known = [
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "opt",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
        "var",
        "workspace",
    ];
    for name in names.lines() {
        assert!(known.contains(&name), "/{name}");
    }
    assert_eq!(world.shell(machine, "ls -A /home").await, "flare");
    let etc = world.shell(machine, "ls -A /etc").await;
    let known = [
        "alternatives",
        "ca-certificates",
        "group",
        "hosts",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "localtime",
        "mtab",
        "nsswitch.conf",
        "os-release",
        "passwd",
        "pki",
        "resolv.conf",
        "ssl",
    ];
    for name in etc.lines() {
        assert!(known.contains(&name), "/etc/{name}");
    }
    let mounts = world.shell(machine, "cat /proc/self/mounts").await;
    for line in mounts.lines() {
        let place = line.split(' ').nth(1).unwrap_or_default();
        assert!(!place.contains("/stage"), "{line}");
        assert!(line.contains("nosuid") || line.contains(" / "), "{line}");
    }
}

async fn writable() {
    let world = World::new().await;
    let machine = world.machine().await;
    for folder in ["/workspace", "/home/flare", "/tmp", "/dev/shm", "/run/user/1000"] {
        assert_eq!(world.probe(machine, &["create", &format!("{folder}/new")]).await, "created", "{folder}");
    }
    for folder in [
        "/",
        "/usr",
        "/usr/local/bin",
        "/etc",
        "/etc/ssl",
        "/etc/alternatives",
        "/dev",
        "/proc",
        "/run",
        "/run/flare",
        "/run/flare/egress",
        "/run/user",
        "/opt",
        "/opt/flare/tools",
        "/opt/flare/tools/flare-probe",
        "/home",
        "/var",
    ] {
        assert_refused(folder, &world.probe(machine, &["create", &format!("{folder}/new")]).await);
    }
    assert_refused("the tool", &world.probe(machine, &["open-write", PROBE]).await);
    assert_refused("passwd", &world.probe(machine, &["open-write", "/etc/passwd"]).await);
    // Each memory file system is bounded.
    for folder in ["/tmp", "/dev/shm", "/run/user/1000"] {
        let size = world.shell(machine, &format!("stat -f -c '%b*%S' {folder}")).await;
        let bytes: u64 = size.split('*').map(|number| number.parse::<u64>().expect("a number")).product();
        assert!(bytes > 0 && bytes <= 256 << 20, "{folder}: {bytes}");
    }
}

async fn kernel_settings() {
    let world = World::new().await;
    let machine = world.machine().await;
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/irq/default_smp_affinity",
    ] {
        if std::path::Path::new(path).exists() {
            assert_refused(path, &world.probe(machine, &["open-write", path]).await);
        }
    }
    for path in ["/proc/kcore", "/proc/kallsyms", "/proc/keys"] {
        let outcome = world.probe(machine, &["read", path]).await;
        assert!(outcome == "read 0" || outcome.starts_with("errno "), "{path}: {outcome}");
    }
    // Not only by the files' modes, which whoever owned them could pass: the mount itself is closed.
    let mounts = world.shell(machine, "cat /proc/self/mounts").await;
    let covered = |path: &str| {
        mounts.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields[1] == path && fields[3].split(',').any(|option| option == "ro")
        })
    };
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/kcore"] {
        assert!(covered(path) || !std::path::Path::new(path).exists(), "{path}: {mounts}");
    }
    // Reading settings is what programs do.
    assert_eq!(world.probe(machine, &["open-read", "/proc/sys/kernel/pid_max"]).await, "opened");
    // And the cover cannot be taken off.
    assert_refused("umount", &world.probe(machine, &["call", "umount2"]).await);
}

async fn devices() {
    let world = World::new().await;
    let machine = world.machine().await;
    let devices = world.shell(machine, "ls -A /dev").await;
    let known = [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert_eq!(devices.lines().collect::<Vec<_>>(), known);
    for name in ["vda", "sda", "nvme0n1", "loop0", "kmsg", "mem", "kvm", "fuse", "net/tun"] {
        let path = format!("/dev/{name}");
        assert_refused(&path, &world.probe(machine, &["open-write", &path]).await);
        assert_refused(&path, &world.probe(machine, &["create", &path]).await);
    }
    for name in ["null", "zero", "full", "random", "urandom"] {
        assert_eq!(world.probe(machine, &["open-write", &format!("/dev/{name}")]).await, "opened", "{name}");
    }
    let made = world.exec(machine, &["mknod", "/tmp/disk", "b", "254", "0"]).await;
    assert_ne!(made.end, ExecOutput::Exit(0), "a device could be made");
}

async fn host_secrets() {
    let world = World::new().await;
    let machine = world.machine().await;
    let data = world.config.data_dir.display().to_string();
    for path in ["/etc/shadow", "/etc/ssl/private", "/root", "/etc/ssh", "/sys", "/boot", "/var/lib", &data] {
        assert_eq!(world.probe(machine, &["open-read", path]).await, "errno 2", "{path}");
    }
    // Not by way of the bound folders either.
    assert_eq!(world.shell(machine, "ls -A /run/flare/egress").await, "proxy.sock");
    assert_eq!(world.shell(machine, "cd /run/flare/egress && cd .. && pwd").await, "/run/flare");
}

async fn agent_secrets() {
    let world = World::new().await;
    let machine = world.machine().await;
    for name in ["mem", "environ", "maps", "auxv", "fd", "root", "cwd", "exe", "stack", "ns/net"] {
        let path = format!("/proc/1/{name}");
        assert_refused(&path, &world.probe(machine, &["read", &path]).await);
    }
    assert_refused("attach", &world.probe(machine, &["attach", "1"]).await);
    assert_refused("read memory", &world.probe(machine, &["memory-of", "1"]).await);
    let words = world.shell(machine, "tr '\\0' ' ' < /proc/1/cmdline").await;
    assert_eq!(words.trim(), "flare-agent", "nothing but its name is an argument");
    assert!(!world.shell(machine, "env").await.contains(crate::world::KEY));
    // Its end would be the machine's: the first process of a namespace takes no such signal from within.
    world.exec(machine, &["sh", "-c", "kill -9 1; kill -STOP 1; true"]).await;
    assert_eq!(world.shell(machine, "echo lives").await, "lives");
}

async fn tracing() {
    let world = World::new().await;
    let machine = world.machine().await;
    assert_eq!(world.probe(machine, &["trace-child"]).await, "done");
}

async fn refused_calls() {
    let world = World::new().await;
    let machine = world.machine().await;
    let eperm = [
        "mount",
        "umount2",
        "pivot_root",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "open_tree_attr",
        "setns",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "clock_settime",
        "settimeofday",
        "clock_adjtime",
        "adjtimex",
        "open_by_handle_at",
        "clone-user",
        "clone-mount",
        "clone-net",
        "unshare-user",
        "unshare-time",
        "vsock",
        "packet",
        "alg",
        "bluetooth",
        "netlink-audit",
        "tiocsti",
        "tioclinux",
    ];
    for name in eperm {
        assert_eq!(world.probe(machine, &["call", name]).await, format!("errno {}", libc::EPERM), "{name}");
    }
    assert_eq!(world.probe(machine, &["call", "clone3"]).await, format!("errno {}", libc::ENOSYS));
    for name in ["clone", "unshare-files", "unix", "inet", "inet6", "netlink-route", "tiocgwinsz"] {
        assert_eq!(world.probe(machine, &["call", name]).await, "done", "{name}");
    }
}

async fn foreign_calls() {
    let world = World::new().await;
    let machine = world.machine().await;
    for name in ["x32", "i386"] {
        let outcome = world.probe(machine, &["foreign-call", name]).await;
        // Where the kernel itself has no such calls, it ends the process with SIGSEGV.
        assert!(outcome == "signal 31" || outcome == "signal 11", "{name}: {outcome}");
    }
}

async fn same_port() {
    let world = World::new().await;
    let (one, two) = (world.machine().await, world.machine().await);
    let serve = |machine, text: &'static str| {
        let world = &world;
        async move { world.probe(machine, &["serve-once", "127.0.0.1:3000", text]).await }
    };
    let fetch = |machine| {
        let world = &world;
        async move {
            loop {
                let found = world.probe(machine, &["fetch", "127.0.0.1:3000"]).await;
                if found != format!("errno {}", libc::ECONNREFUSED) {
                    return found;
                }
            }
        }
    };
    let (served_one, served_two, from_one, from_two) =
        tokio::join!(serve(one, "one"), serve(two, "two"), fetch(one), fetch(two));
    assert_eq!([served_one, served_two], ["served", "served"]);
    assert_eq!([from_one, from_two], ["one", "two"]);
}

async fn host_loopback() {
    let world = World::new().await;
    let machine = world.machine().await;
    let listener = TcpListener::bind("0.0.0.0:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    for address in ["127.0.0.1".to_owned(), own_address()] {
        let outcome = world.probe(machine, &["connect", &format!("{address}:{port}")]).await;
        assert!(outcome.starts_with("errno "), "{address}: {outcome}");
        let outcome = world.probe(machine, &["proxy", "CONNECT", &format!("{address}:{port}")]).await;
        assert!(outcome.starts_with("HTTP/1.1 403"), "{address}: {outcome}");
    }
    listener.set_nonblocking(true).expect("non-blocking");
    assert!(listener.accept().is_err(), "nobody came");
}

/// An address of this host that others would use.
fn own_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // Nothing is sent: this only asks the routing table.
    match socket.connect("192.0.2.1:9") {
        Ok(()) => socket.local_addr().expect("an address").ip().to_string(),
        Err(_) => "127.0.0.2".to_owned(),
    }
}

async fn strangers() {
    let world = World::new().await;
    let (one, two) = (world.machine().await, world.machine().await);
    world
        .shell(
            one,
            "for d in /workspace /home/flare /tmp /dev/shm /run/user/1000; do echo secret > $d/mine; done",
        )
        .await;
    let found = world.shell(two, "find /workspace /home /tmp /dev/shm /run -name mine").await;
    assert_eq!(found, "");
    let listen = world.exec(one, &[PROBE, "--probe", "abstract-listen", "flare-trial"]);
    let connect = async {
        // Inside the same machine it is there; then the other one tries.
        while world.probe(two, &["abstract-connect", "flare-trial"]).await == "connected" {}
        let outcome = world.probe(two, &["abstract-connect", "flare-trial"]).await;
        assert_eq!(outcome, format!("errno {}", libc::ECONNREFUSED));
        loop {
            if world.probe(one, &["abstract-connect", "flare-trial"]).await == "connected" {
                return;
            }
        }
    };
    let (listened, ()) = tokio::join!(listen, connect);
    assert!(listened.stdout.ends_with("accepted\n"), "{listened:?}");
    // System V memory is kept by namespace.
    world.shell(one, "ipcmk -M 4096 > /dev/null").await;
    assert!(world.shell(one, "ipcs -m | grep -c flare").await == "1");
    assert!(!world.shell(two, "ipcs -m").await.contains("flare"));
}

async fn descriptors() {
    let world = World::new().await;
    // One that a careless part of the server left open across exec.
    let careless =
        std::fs::File::open("/etc/hostname").or_else(|_| std::fs::File::open("/etc/passwd")).expect("a file");
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).expect("inheritable");
    let machine = world.machine().await;
    // Once it answers it has closed itself off.
    world.shell(machine, "true").await;
    let pid = world.pid(machine);
    // A session of its own, so that no terminal of the server's ends it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_ascii_whitespace().collect();
    assert_eq!(fields[3], pid.to_string(), "{stat}");
    if !crate::world::is_root() {
        // The agent is closed even to the user who started it.
        let refused = std::fs::read_dir(format!("/proc/{pid}/fd")).expect_err("closed");
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the agent's descriptors")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    open.sort();
    let harmless = ["socket:", "pipe:", "anon_inode:", "/dev/null"];
    for target in &open {
        let log = target.ends_with("/agent.log")
            || target.starts_with("/workspace")
            || target.starts_with("/home/flare");
        assert!(log || harmless.iter().any(|start| target.starts_with(start)) || target == "/", "{open:?}");
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    assert_eq!(environment, b"", "the environment is empty");
}

async fn lookups() {
    let world = World::new().await;
    let machine = world.machine().await;
    assert_eq!(
        world
            .shell(machine, "id -un; getent hosts localhost | wc -l; getent hosts trial | cut -d' ' -f1")
            .await,
        "flare\n1\n127.0.0.1"
    );
    assert_eq!(world.shell(machine, "cat /proc/net/dev | grep -c lo:").await, "1");
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    if std::path::Path::new(certificates).exists() {
        assert_eq!(world.probe(machine, &["open-read", certificates]).await, "opened");
    }
    let path = world.shell(machine, "echo $PATH").await;
    assert!(path.starts_with("/opt/flare/tools/flare-probe"), "{path}");
}

async fn terminals() {
    let world = World::new().await;
    let machine = world.machine().await;
    let seen = world.shell(machine, "script -qc 'tty; stty size' /dev/null | tr -d '\\r'").await;
    assert!(seen.starts_with("/dev/pts/"), "{seen}");
}
