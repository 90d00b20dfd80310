//! SSH into a session beside OpenSSH's own sshd on this machine's loopback: the same client, the same clock.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::memory;
use crate::relay;
use crate::server::{Server, wait};
use crate::stats::Times;

const DOWNLOAD_MB: u64 = 256;
const SSHD: &str = "/usr/sbin/sshd";

/// Measures connect, echo and download.
pub(crate) fn run(server: &Server, client: &mut Client, template: &str, folder: &Path) {
    let count = crate::setting("BENCH_SSH", 30);
    let Some(sshd) = Sshd::start(folder) else {
        println!("\nssh: skipped, sshd is not installed (Debian: openssh-server)");
        return;
    };
    let session = client.create_session("ssh", template);
    client.exec_first_byte(&session);
    let ours = Host::flare(folder, server.port(), client.token());
    let theirs = sshd.host();
    let make = format!("head -c {} /dev/urandom > big && cat big > /dev/null", DOWNLOAD_MB << 20);
    assert!(ours.ssh(&[&make]).status().unwrap().success());
    assert!(theirs.ssh(&[&format!("cd '{}' && {make}", folder.display())]).status().unwrap().success());

    connects(&ours, &theirs, count);
    echoes(&ours, &theirs, &sshd.behind_relays());
    let data = folder.join("data");
    let processes: Vec<u32> = memory::agent_pids(&data).into_iter().chain([server.pid()]).collect();
    downloads(&ours, &theirs, folder, &processes);
    client.delete_session(&session);
}

fn connects(ours: &Host, theirs: &Host, count: u64) {
    let connect = |host: &Host| {
        let begun = Instant::now();
        assert!(host.ssh(&["true"]).status().unwrap().success());
        begun.elapsed()
    };
    // One of each by turns, so that a busy moment of the machine meets both.
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..count {
        times.0.push(connect(ours));
        times.1.push(connect(theirs));
    }
    println!("\nssh: connect, exec `true`        median        p99     ({count} each, by turns)");
    println!("  ssh NAME.flare              {}   (aim: no slower)", Times::of(times.0.into_iter()));
    println!("  ssh to sshd                 {}", Times::of(times.1.into_iter()));
}

/// A terminal that echoes what is typed.
struct Terminal {
    ssh: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Terminal {
    fn open(host: &Host) -> Self {
        // The terminal's own echo, byte by byte.
        let mut ssh = host.ssh(&["-tt", "stty raw echo; printf ready; exec sleep 3600"]);
        let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, mut output) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
        let mut seen = Vec::new();
        while !seen.ends_with(b"ready") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        Self { ssh, input, output }
    }

    fn echo(&mut self) -> Duration {
        let begun = Instant::now();
        self.input.write_all(b"x").unwrap();
        self.output.read_exact(&mut [0]).unwrap();
        begun.elapsed()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

fn echoes(ours: &Host, theirs: &Host, behind: &Host) {
    let mut terminals = [ours, theirs, behind].map(Terminal::open);
    let mut times = [const { Vec::new() }; 3];
    // By turns, a hundred keys each; the first ones are not counted.
    for turn in 0..11 {
        for (terminal, times) in terminals.iter_mut().zip(&mut times) {
            let taken = (0..100).map(|_| terminal.echo());
            times.extend(taken.filter(|_| turn > 0));
        }
    }
    let [ours, theirs, behind] = times.map(|times| Times::of(times.into_iter()));
    println!("\nssh: keystroke echo by a terminal median        p99     (1,000 each, by turns)");
    println!("  ssh NAME.flare              {ours}   (aim: no slower)");
    println!("  ssh to sshd                 {theirs}");
    println!("  sshd behind two bare relays {behind}   (as many processes as ours)");
}

fn downloads(ours: &Host, theirs: &Host, folder: &Path, processes: &[u32]) {
    let there = format!("cat '{}/big'", folder.display());
    let download = |host: &Host, command: &str| {
        let begun = Instant::now();
        let ssh = host.ssh(&[command]).stdout(Stdio::null()).spawn().unwrap();
        assert!({ ssh }.wait().unwrap().success());
        begun.elapsed().as_secs_f64()
    };
    let mut best = (f64::MAX, f64::MAX);
    let mut spent = (0.0, 0.0);
    for _ in 0..4 {
        let before = (processes.iter().map(|pid| seconds_of(*pid)).sum::<f64>(), seconds_of_children());
        best.0 = f64::min(best.0, download(ours, "cat big"));
        spent = (
            processes.iter().map(|pid| seconds_of(*pid)).sum::<f64>() - before.0,
            seconds_of_children() - before.1,
        );
        best.1 = f64::min(best.1, download(theirs, &there));
    }
    let megabytes = DOWNLOAD_MB as f64 * 1.048_576;
    println!("\nssh: download of {DOWNLOAD_MB} MiB              rate     (best of 4)");
    println!(
        "  ssh NAME.flare cat        {:>9.0} MB/s   ({:.2} of sshd's, aim >= 0.70)",
        megabytes / best.0,
        best.1 / best.0
    );
    println!("  ssh to sshd cat           {:>9.0} MB/s", megabytes / best.1);
    println!(
        "  processor time of ours: {:.2} s in the client (ssh and its proxy), {:.2} s in the server and the agent,\n  \
         of {:.2} s on {} processors",
        spent.1,
        spent.0,
        best.0,
        std::thread::available_parallelism().unwrap()
    );
}

/// Processor time of a process so far.
fn seconds_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Processor time of the children that have ended, with theirs.
fn seconds_of_children() -> f64 {
    // SAFETY: the call fills in the structure.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// How to reach one of the two.
struct Host {
    config: PathBuf,
    name: &'static str,
    env: Vec<(&'static str, String)>,
}

impl Host {
    fn flare(folder: &Path, port: u16, token: &str) -> Self {
        let config = folder.join("ssh_config.flare");
        let env = vec![
            ("FLARE_TOKEN", token.to_owned()),
            ("FLARE_URL", format!("http://127.0.0.1:{port}")),
            ("FLARE_CONFIG_DIR", folder.join("config").display().to_string()),
        ];
        let mut write = Command::new(env!("CARGO_BIN_EXE_flare"));
        write.args(["config-ssh", "--yes", "--file"]).arg(&config).envs(env.clone());
        assert!(write.stdout(Stdio::null()).status().unwrap().success());
        Self { config, name: "ssh.flare", env }
    }

    fn ssh(&self, words: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        let options = words.iter().take_while(|word| word.starts_with('-')).count();
        ssh.arg("-F").arg(&self.config).args(&words[..options]).arg(self.name).args(&words[options..]);
        ssh.envs(self.env.clone()).stdin(Stdio::null());
        ssh
    }
}

/// OpenSSH's server, with keys and a port of its own.
struct Sshd {
    child: Child,
    config: PathBuf,
}

impl Sshd {
    fn start(folder: &Path) -> Option<Self> {
        let program = Path::new(SSHD);
        if !program.exists() {
            return None;
        }
        // It insists on it, as root.
        let _ = fs::create_dir_all("/run/sshd");
        let folder = folder.join("sshd");
        fs::create_dir(&folder).unwrap();
        for key in ["host", "user"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key));
            assert!(make.status().unwrap().success());
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized")).unwrap();
        fs::set_permissions(folder.join("authorized"), fs::Permissions::from_mode(0o600)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.join(name).display().to_string();
        fs::write(
            folder.join("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
                 PrintMotd no\nPrintLastLog no\nUseDNS no\n",
                at("host"),
                at("authorized")
            ),
        )
        .unwrap();
        let mut known = format!("[127.0.0.1]:{port} ");
        known.push_str(&fs::read_to_string(folder.join("host.pub")).unwrap());
        fs::write(folder.join("known"), known).unwrap();
        let config = folder.join("ssh_config");
        fs::write(
            &config,
            format!(
                "Host sshd\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
                 IdentityAgent none\n  UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n  \
                 PreferredAuthentications publickey\n",
                at("user"),
                at("known")
            ),
        )
        .unwrap();
        let child = Command::new(program)
            .args(["-D", "-q", "-f"])
            .arg(folder.join("sshd_config"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd does not answer");
            wait(Duration::from_millis(20));
        }
        Some(Self { child, config })
    }

    fn host(&self) -> Host {
        Host { config: self.config.clone(), name: "sshd", env: Vec::new() }
    }

    /// Reached through two processes that pass bytes on.
    fn behind_relays(&self) -> Host {
        let port = relay::serve(SSHD, &self.config.with_file_name("sshd_config"));
        let config = self.config.with_file_name("ssh_config.behind");
        let exe = std::env::current_exe().unwrap();
        let options = format!("  ProxyCommand '{}'\n", exe.display());
        fs::write(&config, fs::read_to_string(&self.config).unwrap() + &options).unwrap();
        Host { config, name: "sshd", env: vec![(relay::PORT, port.to_string())] }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
