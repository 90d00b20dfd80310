//! SSH with the clients that people have: OpenSSH's ssh, sftp and scp, through a bridge as `flare ssh` is one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use burstflare_ports::wire::{Boot, Ready};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tempfile::TempDir;

use crate::machine::{EPOCH, KEY, Machine, alive, eventually};

/// A machine and a client's files.
struct Client {
    machine: Machine,
    folder: TempDir,
}

/// `None` where OpenSSH is missing, said loudly; never in CI.
async fn client() -> Option<Client> {
    client_with(|_| {}).await
}

/// As [`client`], with a boot message that is changed first.
async fn client_with(change: impl FnOnce(&mut Boot)) -> Option<Client> {
    if Command::new("ssh").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs OpenSSH's client");
        eprintln!("SKIPPED: no ssh on this machine");
        return None;
    }
    let machine = Machine::with(change);
    let folder = tempfile::tempdir().unwrap();
    let ready: Ready = serde_json::from_slice(&machine.get("/ready").await.1).unwrap();
    std::fs::write(folder.path().join("known_hosts"), format!("box {}\n", ready.ssh_host_key)).unwrap();
    for key in ["key", "stranger"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(folder.path().join(key))
            .status()
            .unwrap();
        assert!(made.success());
    }
    Some(Client { machine, folder })
}

impl Client {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self) -> &Path {
        &self.machine.roots[0]
    }

    fn options(&self, key: &str) -> Vec<String> {
        let bridge = Path::new(env!("CARGO_BIN_EXE_flare-agent")).with_file_name("examples/ws-bridge");
        assert!(bridge.exists(), "the example is built with the tests");
        let proxy = format!(
            "'{}' '{}' '{KEY}' {EPOCH} '{}'",
            bridge.display(),
            self.machine.socket().display(),
            self.path("key.pub").display()
        );
        let option = |name: &str, value: String| ["-o".to_owned(), format!("{name}={value}")];
        let mut all = vec!["-F".to_owned(), "/dev/null".to_owned()];
        all.extend(option("ProxyCommand", proxy));
        all.extend(option("IdentityFile", self.path(key).display().to_string()));
        all.extend(option("UserKnownHostsFile", self.path("known_hosts").display().to_string()));
        for (name, value) in [
            ("IdentitiesOnly", "yes"),
            ("IdentityAgent", "none"),
            ("StrictHostKeyChecking", "yes"),
            ("GlobalKnownHostsFile", "/dev/null"),
            ("BatchMode", "yes"),
            ("LogLevel", "ERROR"),
        ] {
            all.extend(option(name, value.into()));
        }
        all
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options("key"));
        command
    }

    fn ssh(&self, line: &str) -> Command {
        let mut command = self.command("ssh");
        command.args(["flare@box", line]).stdin(Stdio::null());
        command
    }

    /// Runs a line on the machine; the runtime's thread must stay free for nothing here, so this may block.
    fn run(&self, line: &str) -> Output {
        self.ssh(line).output().unwrap()
    }
}

#[tokio::test]
async fn statuses_streams_and_signals() {
    let Some(client) = client().await else { return };
    for code in [0, 1, 42, 254] {
        assert_eq!(client.run(&format!("exit {code}")).status.code(), Some(code));
    }
    let both = client.run("echo out; echo err >&2; pwd");
    assert_eq!(both.stdout, format!("out\n{}\n", client.root().display()).as_bytes());
    assert_eq!(both.stderr, b"err\n");
    // OpenSSH reports the remote end by a signal as 255.
    assert_eq!(client.run("kill -KILL $$").status.code(), Some(255));
    let mut cat = client.ssh("cat; echo end >&2");
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"in \xff\x00 out").unwrap();
    let output = cat.wait_with_output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"in \xff\x00 out"[..], &b"end\n"[..]));
    assert!(client.run("no-such-program").status.code() == Some(127));
}

#[tokio::test]
async fn only_the_handed_over_key_logs_in() {
    let Some(client) = client().await else { return };
    let mut stranger = Command::new("ssh");
    stranger.args(client.options("stranger")).args(["flare@box", "true"]).stdin(Stdio::null());
    let output = stranger.output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");
    // And the host key is pinned.
    std::fs::write(
        client.path("known_hosts"),
        std::fs::read_to_string(client.path("key.pub")).unwrap().replacen("ssh-", "box ssh-", 1),
    )
    .unwrap();
    assert_eq!(client.run("true").status.code(), Some(255));
}

#[tokio::test]
async fn variables_of_the_language_pass_and_others_do_not() {
    let Some(client) = client().await else { return };
    let mut ssh = client.command("ssh");
    ssh.args(["-o", "SendEnv=LC_TEST COLORTERM LD_PRELOAD PATH"])
        .args(["flare@box", "echo $LC_TEST $COLORTERM ${LD_PRELOAD-none} $FROM_BOOT; echo $PATH"])
        .envs([
            ("LC_TEST", "lc"),
            ("COLORTERM", "truecolor"),
            ("LD_PRELOAD", ""),
            ("PATH", "/evil:/usr/bin:/bin"),
        ])
        .stdin(Stdio::null());
    let text = String::from_utf8(ssh.output().unwrap().stdout).unwrap();
    assert!(text.starts_with("lc truecolor none yes\n/opt/tool/bin:"), "{text}");
    assert!(!text.contains("/evil"), "{text}");
}

/// Changes the terminal's size instead of typing.
const RESIZE: &str = "resize";

/// Runs ssh at a terminal of our own; types each line when what it waits for has come. Answers all output and the
/// exit code.
fn at_terminal(client: &Client, arguments: &[&str], typed: &[(&str, &str)]) -> (String, Option<i32>) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave: OwnedFd = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    rustix::termios::tcsetwinsize(&master, Winsize { ws_row: 41, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 })
        .unwrap();
    let mut ssh = client.command("ssh");
    ssh.args(arguments).env("TERM", "xterm-256color");
    ssh.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    // SAFETY: two system calls between fork and exec.
    unsafe {
        ssh.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        });
    }
    let mut child = ssh.spawn().unwrap();
    drop(ssh);
    let mut master = File::from(master);
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    let mut typed = typed.iter().peekable();
    let mut seen = 0;
    // Ends with EIO when ssh has closed the terminal.
    while let Ok(length) = master.read(&mut buffer) {
        output.extend_from_slice(&buffer[..length]);
        while let Some((awaited, line)) = typed.peek() {
            let text = String::from_utf8_lossy(&output[seen..]).into_owned();
            if !text.contains(awaited) {
                break;
            }
            seen = output.len();
            if *line == RESIZE {
                let size = Winsize { ws_row: 55, ws_col: 122, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(&master, size).unwrap();
            } else {
                master.write_all(line.as_bytes()).unwrap();
            }
            typed.next();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), None);
    (String::from_utf8_lossy(&output).into_owned(), status.code())
}

#[tokio::test]
async fn terminals_are_real() {
    let Some(client) = client().await else { return };
    let script = "tty; stty size; echo $TERM $SSH_TTY; stty -a | grep -o iutf8; ps -o tpgid= -p $$ | tr -d ' ' | grep -qx $$ && echo foreground; exit 5";
    let (output, code) = at_terminal(&client, &["-t", "flare@box", script], &[]);
    assert_eq!(code, Some(5), "{output}");
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{output}");
    assert_eq!(
        lines[1..],
        ["41 101", &format!("xterm-256color {}", lines[0]), "iutf8", "foreground"],
        "{output}"
    );
    // A login shell that is typed into; Ctrl-C interrupts what runs in it.
    let typed = [
        ("$ ", "sh -c 'echo sta\"\"rted; exec sleep 607'\n"),
        ("started", "\x03"),
        ("$ ", "echo $0 $((6*7))\n"),
        ("42", "stty size; exit 6\n"),
    ];
    let (output, code) = at_terminal(&client, &["flare@box"], &typed);
    assert_eq!(code, Some(6), "{output}");
    assert!(output.contains("-bash 42") || output.contains("-sh 42"), "{output}");
}

#[tokio::test]
async fn a_window_that_changes_is_seen_inside() {
    let Some(client) = client().await else { return };
    let script = "trap 'stty size; exit 4' WINCH; stty size; while :; do sleep 0.05; done";
    let (output, code) = at_terminal(&client, &["-t", "flare@box", script], &[("41 101", RESIZE)]);
    assert_eq!((output.contains("55 122"), code), (true, Some(4)), "{output}");
}

#[tokio::test]
async fn a_process_that_stays_behind_does_not_hold_the_terminal() {
    let Some(client) = client().await else { return };
    let began = Instant::now();
    // It ignores the hang-up, so it really keeps the terminal open.
    let script = "trap '' HUP; sleep 608 & echo $! >pid; echo last words; exit 3";
    let (output, code) = at_terminal(&client, &["-t", "flare@box", script], &[]);
    assert_eq!((output.contains("last words"), code), (true, Some(3)), "{output}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let pid = std::fs::read_to_string(client.root().join("pid")).unwrap();
    assert!(alive(&pid));
    // A client that goes away hangs its terminal up.
    let mut ssh = client.command("ssh");
    let ssh = ssh
        .args(["-tt", "flare@box", "echo $$ >shell; sleep 609"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut ssh = ssh.spawn().unwrap();
    let shell = client.root().join("shell");
    eventually("the shell", || std::fs::read_to_string(&shell).is_ok_and(|pid| pid.ends_with('\n'))).await;
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    let pid = std::fs::read_to_string(&shell).unwrap();
    eventually("its end", || !alive(&pid)).await;
}

fn sftp(client: &Client, batch: &[u8]) -> Output {
    let mut sftp = client.command("sftp");
    let sftp = sftp
        .args(["-b", "-", "flare@box"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = sftp.spawn().unwrap();
    child.stdin.take().unwrap().write_all(batch).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn sftp_does_what_its_users_know() {
    let Some(client) = client().await else { return };
    let local = |name: &str| client.path(name).display().to_string();
    let content: Vec<u8> = (0..=255).cycle().take(1_000_001).collect();
    std::fs::write(client.path("up"), &content).unwrap();
    let batch = format!(
        "pwd\nput -p {up} one\nmkdir dir\nrename one dir/two\nln -s dir/two link\nln dir/two hard\nchmod 600 dir/two\n\
         get link {down}\nput {up} \"sp ace\"\nrm \"sp ace\"\nls -l\nls -n dir\ndf -h\nmkdir gone\nrmdir gone\nreget link {down}\n\
         put -f {up} synced\nappend {up} synced\n",
        up = local("up"),
        down = local("down"),
    );
    let output = sftp(&client, batch.as_bytes());
    let text = String::from_utf8_lossy(&output.stdout);
    // `append` is no command of sftp: everything before it worked.
    assert!(String::from_utf8_lossy(&output.stderr).contains("nvalid command"), "{output:?}");
    assert!(text.contains(&format!("Remote working directory: {}", client.root().display())), "{text}");
    assert!(text.contains("-rw-------    2 ") && text.contains(" hard\n"), "{text}");
    assert_eq!(std::fs::read(client.path("down")).unwrap(), content);
    assert!(std::fs::read_link(client.root().join("link")).unwrap() == Path::new("dir/two"));
    assert_eq!(client.run("stat -c %a dir/two").stdout, b"600\n");
    assert!(!client.root().join("sp ace").exists() && !client.root().join("gone").exists());
    let missing = sftp(&client, b"get nothing /dev/null\n");
    assert!(!missing.status.success());
    let denied = sftp(&client, b"ls /root/x\nput /etc/hostname /proc/x\n");
    assert!(!denied.status.success());
}

#[tokio::test]
async fn names_that_are_no_text_survive_copying() {
    let Some(client) = client().await else { return };
    let odd = client.path("tree");
    std::fs::create_dir(&odd).unwrap();
    let names: [&[u8]; 3] = [b"not\xffutf8", "grün 🦀".as_bytes(), b"-dash *?"];
    for name in names {
        std::fs::write(odd.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let up = client.command("scp").args(["-rp"]).arg(&odd).arg("flare@box:").output().unwrap();
    assert!(up.status.success(), "{up:?}");
    let back =
        client.command("scp").args(["-rp", "flare@box:tree"]).arg(client.path("back")).output().unwrap();
    assert!(back.status.success(), "{back:?}");
    for name in names {
        let name = std::ffi::OsStr::from_bytes(name);
        assert_eq!(std::fs::read(client.root().join("tree").join(name)).unwrap(), name.as_bytes());
        assert_eq!(std::fs::read(client.path("back").join(name)).unwrap(), name.as_bytes());
    }
}

/// Bytes that do not compress and are the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

fn report(what: &str, bytes: usize, began: Instant) {
    let rate = bytes as f64 / began.elapsed().as_secs_f64() / 1e6;
    eprintln!("{what}: {rate:.0} MB/s");
}

#[tokio::test]
async fn large_copies_are_whole_both_ways() {
    let Some(client) = client().await else { return };
    const SIZE: usize = 64 << 20;
    let content = noise(SIZE);
    std::fs::write(client.path("large"), &content).unwrap();
    let began = Instant::now();
    let up = client.command("scp").arg(client.path("large")).arg("flare@box:large").output().unwrap();
    report("scp up", SIZE, began);
    assert!(up.status.success(), "{up:?}");
    assert!(std::fs::read(client.root().join("large")).unwrap() == content);
    let began = Instant::now();
    let down = client.command("scp").arg("flare@box:large").arg(client.path("back")).output().unwrap();
    report("scp down", SIZE, began);
    assert!(down.status.success(), "{down:?}");
    assert!(std::fs::read(client.path("back")).unwrap() == content);
    // Both directions of one channel at once, more than all windows together.
    let began = Instant::now();
    let mut cat = client.ssh("cat");
    cat.stdin(File::open(client.path("large")).unwrap()).stdout(File::create(client.path("echo")).unwrap());
    assert!(cat.status().unwrap().success());
    report("through cat", 2 * SIZE, began);
    assert!(std::fs::read(client.path("echo")).unwrap() == content);
}

#[tokio::test]
async fn a_program_that_does_not_read_stops_its_writer() {
    let Some(client) = client().await else { return };
    const SIZE: usize = 96 << 20;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", client.machine.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = resident();
    let mut ssh = client.command("ssh");
    let script = "while [ ! -e go ]; do sleep 0.05; done; sha256sum | cut -c1-64";
    let mut child =
        ssh.args(["flare@box", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let content = noise(SIZE);
    let (sent, taken) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        for piece in content.chunks(1 << 20) {
            stdin.write_all(piece).unwrap();
            sent.send(()).unwrap();
        }
        content
    });
    // Until it moves no more.
    let mut pieces = 0;
    while taken.recv_timeout(Duration::from_secs(3)).is_ok() {
        pieces += 1;
    }
    assert!(pieces < 40, "{pieces} MiB were taken from the writer");
    let grown = resident().saturating_sub(before);
    assert!(grown < 40 << 10, "the agent grew by {grown} KiB");
    // Meanwhile the agent serves others.
    assert!(client.run("true").status.success());
    std::fs::write(client.root().join("go"), "").unwrap();
    let content = writer.join().unwrap();
    let output = child.wait_with_output().unwrap();
    std::fs::write(client.path("content"), &content).unwrap();
    let here = Command::new("sha256sum").arg(client.path("content")).output().unwrap().stdout;
    assert_eq!(output.stdout[..64], here[..64]);
}

#[tokio::test]
async fn loopback_ports_are_forwarded() {
    let Some(client) = client().await else { return };
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&request.repeat(2)).unwrap();
    });
    let forward = |target: String, input: &[u8]| {
        let mut ssh = Command::new("ssh");
        // The first setting counts; at this level ssh says why a channel was refused.
        ssh.args(["-o", "LogLevel=INFO"]).args(client.options("key"));
        ssh.args(["-W", &target, "flare@box"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    };
    assert_eq!(forward(format!("localhost:{port}"), b"twice ").stdout, b"twice twice ");
    serving.join().unwrap();
    let closed = String::from_utf8(forward(format!("127.0.0.1:{port}"), b"").stderr).unwrap();
    assert!(closed.contains("onnect"), "{closed}");
}

/// An egress proxy as the server offers one: it takes CONNECT for one name and refuses every other.
fn proxy(at: &Path) -> std::thread::JoinHandle<Vec<String>> {
    let listener = std::os::unix::net::UnixListener::bind(at).unwrap();
    std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let line = head.lines().next().unwrap().to_owned();
            if line.contains("good.example") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nfrom outside").unwrap();
            } else {
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
            asked.push(line);
        }
        asked
    })
}

#[tokio::test]
async fn what_lies_outside_is_reached_by_the_machines_own_way_out_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let socket = folder.path().join("egress.sock");
    let serving = proxy(&socket);
    let Some(client) = client_with(|boot| boot.egress = Machine::egress("127.0.0.1:0", &socket)).await else {
        return;
    };
    let good = client.command("ssh").args(["-W", "good.example:80", "flare@box"]).output().unwrap();
    assert_eq!(good.stdout, b"from outside", "{good:?}");
    let mut bad = Command::new("ssh");
    bad.args(["-o", "LogLevel=INFO"]).args(client.options("key")).args(["-W", "10.0.0.1:80", "flare@box"]);
    let bad = String::from_utf8(bad.output().unwrap().stderr).unwrap();
    assert!(bad.contains("prohibited"), "{bad}");
    let asked = serving.join().unwrap();
    assert_eq!(asked, ["CONNECT good.example:80 HTTP/1.1", "CONNECT 10.0.0.1:80 HTTP/1.1"]);
}
