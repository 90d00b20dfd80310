//! A data folder, a runtime on it, and what the engine says of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_adapters_local::docker::{DockerConfig, DockerRuntime};
use burstflare_ports::blob::Blobs;
use tempfile::TempDir;

/// The image of machines here.
const IMAGE: &str = "burstflare/base:debian-12";
/// Names the static agent.
const AGENT: &str = "FLARE_STATIC_AGENT";
const LABEL: &str = "label=dev.burstflare.deployment";

/// A world of its own for each test.
pub(crate) struct World {
    _folder: TempDir,
    pub(crate) config: DockerConfig,
    pub(crate) runtime: DockerRuntime,
    pub(crate) blobs: Arc<dyn Blobs>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let agent = std::env::var_os(AGENT).map(PathBuf::from).expect("the static agent");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let images = BTreeMap::from([("default".to_owned(), IMAGE.to_owned())]);
        let config = DockerConfig::new(folder.path().join("data with spaces"), agent, images);
        let blobs: Arc<dyn Blobs> =
            Arc::new(FsBlobs::open(folder.path().join("blobs")).expect("a blob store"));
        let runtime = DockerRuntime::open(config.clone(), Arc::clone(&blobs)).await.expect("an engine");
        Self { _folder: folder, config, runtime, blobs }
    }

    /// What a later server has.
    pub(crate) async fn opened_again(&self) -> DockerRuntime {
        DockerRuntime::open(self.config.clone(), Arc::clone(&self.blobs)).await.expect("opens again")
    }

    /// Ids of what this world's deployment has on the engine.
    pub(crate) fn objects(&self) -> Vec<String> {
        objects(&self.config.data_dir)
    }
}

impl Drop for World {
    /// Removes what a failed test left: machines outlive their servers.
    fn drop(&mut self) {
        let left = self.objects();
        for (kind, words) in [("c:", ["rm", "-fv"].as_slice()), ("v:", &["volume", "rm", "-f"])] {
            for id in left.iter().filter_map(|id| id.strip_prefix(kind)) {
                let _ = Command::new("docker").args(words).arg(id).output();
            }
        }
    }
}

/// Containers, volumes and networks with a deployment's label.
fn objects(data_dir: &Path) -> Vec<String> {
    let Ok(deployment) = std::fs::read_to_string(data_dir.join("deployment")) else { return Vec::new() };
    let filter = format!("{LABEL}={deployment}");
    let mut all = Vec::new();
    for (kind, words) in [
        ("c:", ["ps", "-aq", "--filter"].as_slice()),
        ("v:", &["volume", "ls", "-q", "--filter"]),
        ("n:", &["network", "ls", "-q", "--filter"]),
    ] {
        let listed = docker(&[words, &[&filter]].concat());
        all.extend(listed.lines().map(|id| format!("{kind}{id}")));
    }
    all
}

/// What the engine's own client answers.
#[track_caller]
pub(crate) fn docker(words: &[&str]) -> String {
    let output = Command::new("docker").args(words).output().expect("the client runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Whether this machine has what the trials need.
pub(crate) fn is_ready() -> bool {
    let image = || Command::new("docker").args(["image", "inspect", IMAGE]).output();
    let missing = if std::env::var_os(AGENT).is_none() {
        "FLARE_STATIC_AGENT is not set"
    } else if !image().is_ok_and(|output| output.status.success()) {
        "there is no Docker engine with the image burstflare/base:debian-12"
    } else {
        return true;
    };
    eprintln!("SKIPPED: {missing}; .ci/test docker provides it");
    // On CI they run, and fail.
    std::env::var_os("CI").is_some()
}

impl World {
    /// How many machines have a folder.
    pub(crate) fn folders(&self) -> usize {
        std::fs::read_dir(self.config.data_dir.join("machines")).expect("the machines' folder").count()
    }
}
