//! An S3 server of one node, with a bucket, in a folder that vanishes with it: Garage where it is found, else SeaweedFS, which
//! installs in seconds. `FLARE_S3_SERVER` names the program instead; `.ci/tools/s3` installs either.

mod garage;
mod seaweed;

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const KEY: &str = "GK31c2f218a2e44f485b94239e";
pub(crate) const SECRET: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";
pub(crate) const BUCKET: &str = "flare-test";
pub(crate) const REGION: &str = "test-1";
/// What a bucket's name stands before, where it stands in the host's.
pub(crate) const DOMAIN: &str = "s3.test";
/// Longer than anything takes that works, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whose server it is: not all keep to the protocol everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Garage,
    SeaweedFs,
}

pub(crate) struct Server {
    pub(crate) kind: Kind,
    child: Child,
    pub(crate) port: u16,
    /// Files outside its folder that it does not remove when it is killed.
    litter: Vec<PathBuf>,
    folder: TempDir,
}

/// Where it is installed. In CI a missing one is a failure, elsewhere it is said loudly.
pub(crate) fn program() -> Option<(Kind, PathBuf)> {
    if let Some(named) = std::env::var_os("FLARE_S3_SERVER").map(PathBuf::from) {
        let kind = match named.file_name().and_then(|name| name.to_str()) {
            Some("garage") => Kind::Garage,
            Some("weed") => Kind::SeaweedFs,
            _ => {
                panic!("FLARE_S3_SERVER is the path of a program `garage` or `weed`, not {}", named.display())
            }
        };
        assert!(named.is_file(), "FLARE_S3_SERVER: there is no {}", named.display());
        return Some((kind, named));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(cache.map(|cache| cache.join("burstflare-ci/tools/bin")));
    for (kind, name) in [(Kind::Garage, "garage"), (Kind::SeaweedFs, "weed")] {
        if let Some(file) = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()) {
            return Some((kind, file));
        }
    }
    const MISSING: &str = "there is no S3 server: .ci/tools/s3 installs one";
    assert!(std::env::var_os("CI").is_none(), "{MISSING}");
    eprintln!("SKIPPED: {MISSING}");
    None
}

/// Whether the server that is there cannot pass a case of the conformance suite for reasons of its own.
pub(crate) fn left_out(case: &str) -> bool {
    let out = matches!(program(), Some((Kind::SeaweedFs, _))) && seaweed::LEFT_OUT.contains(&case);
    if out {
        eprintln!("LEFT OUT on SeaweedFS: {case}");
    }
    out
}

/// The smallest part that the server takes.
pub(crate) fn least_part() -> usize {
    match program() {
        Some((Kind::SeaweedFs, _)) => 5 << 20,
        _ => 64 << 10,
    }
}

/// Ports that nobody listens on, all different. They lie below those that the system hands out by itself, so that no connection
/// of another test takes one before the server does.
fn free_ports<const N: usize>() -> [u16; N] {
    let mut taken = HashSet::new();
    [(); N].map(|()| {
        loop {
            let chance = getrandom::u32().expect("randomness") % 20_000;
            let port = 10_000 + u16::try_from(chance).expect("it fits");
            if TcpListener::bind(("127.0.0.1", port)).is_ok() && taken.insert(port) {
                return port;
            }
        }
    })
}

impl Server {
    /// One that answers, or nothing where none is installed.
    pub(crate) fn start() -> Option<Self> {
        let (kind, program) = program()?;
        // Somebody else may take a free port before the server does; then others are tried.
        for _ in 0..5 {
            if let Some(started) = Self::on(kind, &program) {
                return Some(started);
            }
        }
        panic!("{} does not start", program.display());
    }

    fn on(kind: Kind, program: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(program);
        let (port, litter) = match kind {
            Kind::Garage => garage::prepare(&mut command, folder.path()),
            Kind::SeaweedFs => seaweed::prepare(&mut command, folder.path()),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().expect("the server runs");
        let mut server = Self { kind, child, port, litter, folder };
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if server.child.try_wait().expect("waits").is_some() {
                return None;
            }
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("{} does not answer", program.display());
    }

    /// Bytes that it keeps, roughly.
    pub(crate) fn stored(&self) -> u64 {
        fn below(folder: &Path) -> u64 {
            let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            let sizes = entries.map(|entry| match entry.metadata() {
                Ok(found) if found.is_dir() => below(&entry.path()),
                Ok(found) => found.len(),
                Err(_) => 0,
            });
            sizes.sum()
        }
        below(&self.folder.path().join("data"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for file in &self.litter {
            let _ = std::fs::remove_file(file);
        }
    }
}
