//! A Garage of one node, with a bucket, in a folder that vanishes with it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const KEY: &str = "GK31c2f218a2e44f485b94239e";
pub(crate) const SECRET: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";
pub(crate) const BUCKET: &str = "flare-test";
/// Longer than anything takes that works, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Garage {
    child: Child,
    pub(crate) port: u16,
    folder: TempDir,
}

/// Where it is installed. In CI a missing one is a failure, elsewhere it is said loudly.
pub(crate) fn program() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(cache.map(|cache| cache.join("burstflare-ci/tools/bin")));
    let found = folders.into_iter().map(|folder| folder.join("garage")).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "`garage` is missing: .ci/tools/s3 builds it");
        eprintln!("SKIPPED: `garage` is missing: .ci/tools/s3 builds it");
    }
    found
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

impl Garage {
    /// One that answers, or nothing where none is installed.
    pub(crate) fn start() -> Option<Self> {
        let program = program()?;
        // Somebody else may take a free port before the server does; then the next one is tried.
        for _ in 0..5 {
            if let Some(started) = Self::on(&program, free_port()) {
                return Some(started);
            }
        }
        panic!("garage does not start");
    }

    fn on(program: &PathBuf, port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let text = format!(
            "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
             lmdb_map_size = \"1G\"\nrpc_bind_addr = \"127.0.0.1:{1}\"\nrpc_public_addr = \"127.0.0.1:{1}\"\nrpc_secret = \"{2}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{port}\"\nroot_domain = \".s3.test\"\n",
            at.display(),
            free_port(),
            "0123456789abcdef".repeat(4),
        );
        std::fs::write(at.join("garage.toml"), text).expect("written");
        let child = Command::new(program)
            .arg("-c")
            .arg(at.join("garage.toml"))
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("garage runs");
        let mut garage = Self { child, port, folder };
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if garage.child.try_wait().expect("waits").is_some() {
                return None;
            }
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(garage);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("garage does not answer; its data lie in {}", garage.data().display());
    }
}

impl Garage {
    /// Where it keeps what was stored.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
