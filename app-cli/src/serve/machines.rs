//! What machines run on here: the process sandbox, or a Docker engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burstflare_adapters_local::docker::{AGENT_CURE, DockerConfig, DockerRuntime};
use burstflare_adapters_local::sandbox::{Check, SandboxConfig, SandboxRuntime};
use burstflare_ports::blob::Blobs;
use burstflare_ports::error::PortError;
use burstflare_ports::machine::{AgentLink, MachineRuntime, RuntimeProfile};

use super::failure;
use crate::exit::{Exit, Failure};
use crate::place;

/// The static agent, beside our own program.
const AGENT: &str = "flare-agent";
/// The image where nobody names one.
const IMAGE: &str = "debian:12";

/// How machines are to be run.
#[derive(Debug)]
pub enum MachineConfig {
    /// As processes of this host.
    Sandbox(SandboxConfig),
    /// As containers.
    Docker(DockerConfig),
}

/// Machines, and what was found out about the host.
#[derive(Clone)]
pub struct Machines {
    /// Starts and finds them.
    pub runtime: Arc<dyn MachineRuntime>,
    /// Talks to them.
    pub agents: Arc<dyn AgentLink>,
    /// Line by line, for doctor.
    pub checks: Vec<Check>,
}

impl Machines {
    /// Opens the runtime.
    ///
    /// # Errors
    /// When the host cannot run machines that way.
    pub async fn open(config: MachineConfig, blobs: Arc<dyn Blobs>) -> Result<Self, Failure> {
        match config {
            MachineConfig::Sandbox(config) => {
                let runtime = SandboxRuntime::open(config, blobs).await.map_err(|error| failure(&error))?;
                let checks = runtime.checks().to_vec();
                let runtime = Arc::new(runtime);
                Ok(Self { runtime: runtime.clone(), agents: runtime, checks })
            }
            MachineConfig::Docker(config) => {
                let runtime = DockerRuntime::open(config, blobs).await.map_err(|error| docker(&error))?;
                let checks = runtime.checks().to_vec();
                let runtime = Arc::new(runtime);
                Ok(Self { runtime: runtime.clone(), agents: runtime, checks })
            }
        }
    }

    /// What they run on.
    #[must_use]
    pub fn profile(&self) -> RuntimeProfile {
        self.runtime.profile()
    }
}

fn docker(error: &PortError) -> Failure {
    let failure = failure(error);
    match error.operation() {
        "docker.agent" => Failure::new(Exit::Unsupported, failure.message).hint(AGENT_CURE),
        _ => failure,
    }
}

/// The Docker runtime's configuration: the engine that the environment names, the agent beside this program.
///
/// # Errors
/// `Usage` for an engine that is not on this host, or images that are not named once each.
pub fn docker_config(
    data_dir: PathBuf,
    agent: Option<&Path>,
    images: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<DockerConfig, Failure> {
    let agent = match agent {
        Some(agent) => place::absolute(agent)?,
        None => std::env::current_exe()
            .map_err(|error| Failure::local("cannot find this program's own folder", error))?
            .with_file_name(AGENT),
    };
    let mut config = DockerConfig::new(data_dir, agent, catalogue(images)?);
    if let Some(host) = variable("DOCKER_HOST").filter(|host| !host.is_empty()) {
        let path = host.strip_prefix("unix://").filter(|path| path.starts_with('/')).ok_or_else(|| {
            Failure::usage(format!("DOCKER_HOST is {host}: only an engine of this machine is supported"))
                .hint("Set DOCKER_HOST=unix:///PATH, or unset it.")
        })?;
        config.socket = PathBuf::from(path);
    }
    Ok(config)
}

/// Reads `IMAGE` and `BASE=IMAGE`.
fn catalogue(images: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in images {
        let (base, image) = text.split_once('=').unwrap_or(("default", text));
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain(base) || !plain(image) || image.starts_with('-') {
            return Err(Failure::usage(format!("--image {text}: neither IMAGE nor BASE=IMAGE"))
                .hint("For example: --image debian:12 --image rust=rust:1.90"));
        }
        if all.insert(base.to_owned(), image.to_owned()).is_some() {
            return Err(Failure::usage(format!("--image names the image of `{base}` twice"))
                .hint("One image stands without a name; the others are BASE=IMAGE."));
        }
    }
    all.entry("default".to_owned()).or_insert_with(|| IMAGE.to_owned());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_by_the_base_of_templates() {
        let read = |words: &[&str]| {
            catalogue(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|failure| failure.message)
        };
        let all = read(&["a/b:1", "rust=r@sha256:ab"]).expect("readable");
        assert_eq!(all.get("default").map(String::as_str), Some("a/b:1"));
        assert_eq!(all.get("rust").map(String::as_str), Some("r@sha256:ab"));
        assert_eq!(read(&[]).expect("one").get("default").map(String::as_str), Some(IMAGE));
        assert!(read(&["a", "b"]).is_err_and(|text| text.contains("twice")));
        assert!(read(&["=x"]).is_err() && read(&["x="]).is_err() && read(&["a b"]).is_err());
    }

    #[test]
    fn an_engine_elsewhere_is_refused() {
        let with = |host: &'static str| {
            docker_config("/d".into(), Some(Path::new("/a")), &[], |_| Some(host.to_owned()))
        };
        assert_eq!(with("unix:///run/d.sock").expect("local").socket, PathBuf::from("/run/d.sock"));
        assert!(with("tcp://10.0.0.1:2375").is_err());
        assert!(with("unix://relative").is_err());
    }
}
