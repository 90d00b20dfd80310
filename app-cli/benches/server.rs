//! The real binary, serving on a free port.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
    words: Vec<String>,
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        Self::with(folder, &[])
    }

    /// With these words behind `dev`.
    pub(crate) fn with(folder: &Path, words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(folder, port, &words);
        Self { child, port, folder: folder.to_owned(), words }
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder, self.port, &self.words);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An orderly end: `dev` puts its sessions to sleep.
    pub(crate) fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: our own child, which has not been waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let until = Instant::now() + Duration::from_secs(90);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the server does not end");
            wait(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.stop();
        }
    }
}

fn spawn(folder: &Path, port: u16, words: &[String]) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flare"))
        .args(["dev", "--port", &port.to_string(), "--data-dir"])
        .arg(folder.join("data"))
        .args(words)
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its words are of no interest, but nobody reading them would block it.
    let stdout = child.stdout.take().unwrap();
    let stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || BufReader::new(stdout).lines().for_each(drop));
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if std::env::var_os("BENCH_VERBOSE").is_some() {
                println!("  server: {line}");
            }
        }
    });
    let until = Instant::now() + Duration::from_secs(30);
    while !healthy(port) {
        assert!(Instant::now() < until, "the server does not answer");
        wait(Duration::from_millis(5));
    }
    child
}

fn healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let request = format!("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition with a deadline")]
pub(crate) fn wait(span: Duration) {
    std::thread::sleep(span);
}
