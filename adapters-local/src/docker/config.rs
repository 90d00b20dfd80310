//! What the runtime is set up with. Everything is given: nothing here reads the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::sandbox::EgressConfig;

/// Where engines listen unless told otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// Everything a [`super::DockerRuntime`] is made from.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// Machines' folders lie below it. The engine has to see it at the same path.
    pub data_dir: PathBuf,
    /// The engine's unix socket.
    pub socket: PathBuf,
    /// The agent: a program that is linked statically, so that it runs in every image.
    pub agent: PathBuf,
    /// The images by the bases of templates; `default` is always one.
    pub images: BTreeMap<String, String>,
    /// What the way out leads to.
    pub egress: EgressConfig,
    /// Folders of the host that every machine gets read-only below `/opt/flare/tools`; their `bin` is put on PATH.
    pub tools: Vec<PathBuf>,
}

impl DockerConfig {
    /// The defaults: the engine's usual socket, the egress proxy, no tools.
    #[must_use]
    pub fn new(data_dir: PathBuf, agent: PathBuf, images: BTreeMap<String, String>) -> Self {
        Self {
            data_dir,
            socket: PathBuf::from(SOCKET),
            agent,
            images,
            egress: EgressConfig::default(),
            tools: Vec::new(),
        }
    }
}
