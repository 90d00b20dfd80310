//! Drives the real binary in surroundings of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_flare");
/// Longer than anything takes that works, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Answer {
    /// The one JSON document of standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Insists on success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Insists on an exit code and something in the error.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, about: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(about), "`{about}` is not in {self:?}");
        self
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A user's surroundings: home, folder of credentials, working folder.
pub(crate) struct Place {
    /// Everything lies below it.
    pub(crate) root: tempfile::TempDir,
}

impl Drop for Place {
    /// Sessions that sleep have their disks on the engine, where there is one.
    fn drop(&mut self) {
        crate::docker::clear(&self.path("data"));
    }
}

impl Place {
    /// Fresh ones.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["home", "work"] {
            fs::create_dir(root.path().join(name)).expect("made");
        }
        Self { root }
    }

    /// Something below the root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A command in these surroundings, with nothing else of the caller's environment but PATH and proxies.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        for name in ["PATH", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"]
        {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.path("home"))
            .env("FLARE_CONFIG_DIR", self.path("config"))
            .env("LANG", "C.UTF-8")
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `flare` to its end.
    #[track_caller]
    pub(crate) fn flare<I: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = I>) -> Answer {
        run(self.command(EXE).args(words))
    }

    /// A server with these surroundings.
    pub(crate) fn server(&self) -> Server {
        self.server_with(&["--port", "0"])
    }

    /// A server with these words behind `dev`.
    pub(crate) fn server_with(&self, words: &[&str]) -> Server {
        Server::start(self, words, Stdio::inherit())
    }

    /// A server whose remarks go to the file `server.log`.
    pub(crate) fn server_with_log(&self) -> Server {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.path("server.log")).expect("a file");
        Server::start(self, &["--port", "0"], log.into())
    }
}

/// Runs a command to its end, or to the end of patience.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Answer {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let out = drain(child.stdout.take().expect("a pipe"));
    let err = drain(child.stderr.take().expect("a pipe"));
    let status = wait(&mut child).unwrap_or_else(|| panic!("it does not end: {command:?}"));
    Output { status, stdout: out.join().expect("read"), stderr: err.join().expect("read") }.into()
}

/// Waits for a process's end, then kills it.
pub(crate) fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().expect("waits") {
            return Some(status);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A running `flare dev`; ends, with its sessions, when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it answers.
    pub(crate) url: String,
    /// Its data folder.
    pub(crate) data: PathBuf,
}

impl Server {
    fn start(place: &Place, words: &[&str], remarks: Stdio) -> Self {
        let data = place.path("data");
        let mut child = place
            .command(EXE)
            .args(["--json", "dev", "--data-dir"])
            .arg(&data)
            .args(crate::docker::words_for(words))
            .args(words)
            .stdout(Stdio::piped())
            .stderr(remarks)
            .spawn()
            .expect("starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, first) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let line = first.recv_timeout(PATIENCE).expect("the server begins");
        let document: Value = serde_json::from_str(&line).expect("one document");
        let url = document["url"].as_str().expect("a URL").to_owned();
        Self { child, url, data }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("sent");
    }

    /// Waits for its end; answers its exit code.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Option<i32> {
        let status = wait(&mut self.child).expect("the server ends");
        status.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(rustix::process::Signal::TERM);
            let _ = wait(&mut self.child);
        }
    }
}

/// Whether this machine has what a test needs. On CI a missing thing is a failure, elsewhere it is said loudly.
#[track_caller]
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "`{program}` is missing");
        eprintln!("SKIPPED: `{program}` is missing");
    }
    found
}

/// Registers, makes a template of a folder (or of the starter), promotes it, and brings a session up.
#[track_caller]
pub(crate) fn session(place: &Place, server: &Server, folder: Option<&Path>) -> String {
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &server.url]).ok();
    place.flare(["template", "create", "t"]).ok();
    let mut upload = place.command(EXE);
    upload.args(["template", "upload", "t", "--version", "1"]);
    if let Some(folder) = folder {
        upload.arg("--dir").arg(folder);
    }
    run(&mut upload).ok();
    place.flare(["template", "promote", "t", "1"]).ok();
    let up = place.flare(["session", "up", "s", "--template", "t", "--json"]).ok();
    up.json()["id"].as_str().expect("an id").to_owned()
}
