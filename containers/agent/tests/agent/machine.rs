//! One agent with its roots in a temporary folder. Run by root it is started as an ordinary user, because root may
//! read what its mode forbids.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use burstflare_ports::secret::Secret;
use burstflare_ports::wire::{AGENT_ARGV0, Boot, EPOCH_HEADER, Egress, ExecOutput, ExecRequest, Refusal};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::net::UnixStream;

pub(crate) const KEY: &str = "a key of this test, long enough";
pub(crate) const EPOCH: u64 = 7;
const ORDINARY: u32 = 4321;

pub(crate) struct Machine {
    agent: Child,
    folder: TempDir,
    pub(crate) roots: Vec<PathBuf>,
}

pub(crate) type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

impl Machine {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts one as process 1 of a pid namespace, which takes root.
    pub(crate) fn as_process_one() -> Self {
        Self::begin(|_| {}, &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])
    }

    /// Starts one whose boot message is changed first.
    pub(crate) fn with(change: impl FnOnce(&mut Boot)) -> Self {
        Self::begin(change, &[])
    }

    fn begin(change: impl FnOnce(&mut Boot), wrapper: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots: Vec<PathBuf> =
            ["workspace", "home/flare"].iter().map(|root| folder.path().join(root)).collect();
        for root in &roots {
            std::fs::create_dir_all(root).unwrap();
        }
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        give_away(folder.path());
        let mut boot = Boot {
            protocol: 1,
            machine: "ses_test".into(),
            epoch: EPOCH,
            key: Secret::new(KEY.into()),
            ssh_host_seed: Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into()),
            hostname: "box".into(),
            roots: roots.iter().map(|root| root.to_str().unwrap().to_owned()).collect(),
            home: roots[1].to_str().unwrap().into(),
            env: BTreeMap::from([("FROM_BOOT".into(), "yes".into())]),
            on_start: None,
            egress: None,
            path: vec!["/opt/tool/bin".into()],
            run: folder.path().join("run/flare").to_str().unwrap().into(),
        };
        change(&mut boot);
        let (mut agent, mut pipe) = spawn(&listener.into(), wrapper);
        pipe.write_all(&serde_json::to_vec(&boot).unwrap()).unwrap();
        drop(pipe);
        assert!(agent.try_wait().unwrap().is_none());
        Self { agent, folder, roots }
    }

    pub(crate) fn egress(listen: &str, socket: &Path) -> Option<Egress> {
        Some(Egress { listen: listen.into(), socket: socket.to_str().unwrap().into() })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// A folder beside the roots that the agent's user may use.
    pub(crate) fn scratch(&self) -> PathBuf {
        let scratch = self.folder.path().join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        give_away(&scratch);
        scratch
    }

    pub(crate) fn pid(&self) -> u32 {
        self.agent.id()
    }

    pub(crate) async fn connect(&self) -> Sender {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        self.open_with(method, path, &[], body).await
    }

    pub(crate) async fn open_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "agent")
            .header("authorization", format!("Bearer {KEY}"))
            .header(EPOCH_HEADER, EPOCH);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.connect().await.send_request(request).await.unwrap()
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Bytes) {
        let response = self.open(method, path, body).await;
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Bytes) {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn refusal(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (u16, Refusal) {
        let (status, body) = self.call(method, path, body).await;
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    /// Runs a command to its end: output as bytes, and the last line.
    pub(crate) async fn exec(&self, request: &ExecRequest) -> (Vec<u8>, Vec<u8>, ExecOutput) {
        let (status, body) = self.call(Method::POST, "/v1/exec", serde_json::to_vec(request).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        sort_out(&body)
    }

    pub(crate) async fn sh(&self, script: &str) -> String {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let (stdout, stderr, last) = self.exec(&ExecRequest { argv, ..ExecRequest::default() }).await;
        assert_eq!(last, ExecOutput::Exit(0), "{script}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Waits for the agent's own end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.agent.wait().unwrap().code()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.agent.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.agent.try_wait().ok().flatten().is_none() {
            // Its processes end with it.
            self.signal(Signal::TERM);
            let _ = self.agent.wait();
        }
    }
}

pub(crate) fn sort_out(body: &[u8]) -> (Vec<u8>, Vec<u8>, ExecOutput) {
    use base64::Engine as _;
    let decode = |text: String| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let (mut stdout, mut stderr, mut last) = (Vec::new(), Vec::new(), None);
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(last.is_none(), "a line after the last one");
        match serde_json::from_slice(line).unwrap() {
            ExecOutput::Stdout(text) => stdout.extend(text.into_bytes()),
            ExecOutput::StdoutB64(text) => stdout.extend(decode(text)),
            ExecOutput::Stderr(text) => stderr.extend(text.into_bytes()),
            ExecOutput::StderrB64(text) => stderr.extend(decode(text)),
            end => last = Some(end),
        }
    }
    (stdout, stderr, last.unwrap())
}

/// Starts the binary with a boot pipe and a socket, as machines do.
pub(crate) fn spawn(listener: &OwnedFd, wrapper: &[&str]) -> (Child, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    // By descriptor: the ordinary user may not be allowed to walk to the binary.
    let binary = std::fs::File::open(env!("CARGO_BIN_EXE_flare-agent")).unwrap();
    rustix::io::fcntl_setfd(&binary, rustix::io::FdFlags::empty()).unwrap();
    let path = format!("/proc/self/fd/{}", binary.as_raw_fd());
    let mut command = match wrapper {
        [] => {
            let mut command = Command::new(path);
            command.arg0(AGENT_ARGV0).env_clear();
            if rustix::process::geteuid().is_root() {
                command.uid(ORDINARY).gid(ORDINARY);
            }
            command
        }
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(path);
            command
        }
    };
    command.stdin(Stdio::null());
    let (pipe, socket) = (reader.as_raw_fd(), listener.as_raw_fd());
    // SAFETY: only system calls between fork and exec. Moved out of the way first, so neither overwrites the other.
    unsafe {
        command.pre_exec(move || {
            let high = |fd| libc::fcntl(fd, libc::F_DUPFD, 100);
            let (pipe, socket) = (high(pipe), high(socket));
            for (from, to) in [(pipe, 3), (socket, 4)] {
                if libc::dup2(from, to) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                libc::close(from);
            }
            Ok(())
        });
    }
    (command.spawn().unwrap(), writer)
}

/// To the user that the agent runs as.
pub(crate) fn give_away(path: &Path) {
    if rustix::process::geteuid().is_root() {
        for entry in walk(path) {
            std::os::unix::fs::lchown(entry, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
    }
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            all.extend(walk(&entry.unwrap().path()));
        }
    }
    all
}

/// Waits for a condition, with a deadline.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "{what} never came true");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub(crate) fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}
