//! What `flare dev` and `flare serve` have in common.

use std::path::PathBuf;

use burstflare_adapters_local::sandbox::{
    AgentCommand, Cidr, EgressConfig, Fallback, NetworkMode, SandboxConfig,
};
use burstflare_core::Registration;
use burstflare_ports::machine::Isolation;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::place;
use crate::serve::{BlobsPlace, MachineConfig, Options, Plant, docker_config, upstream};

/// What both servers take.
#[derive(Debug, Args)]
pub struct Common {
    /// Where everything is kept; by default below $XDG_DATA_HOME.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// What sessions run on.
    #[arg(long, value_enum, default_value_t = Runtime::Sandbox)]
    runtime: Runtime,
    /// With --runtime docker: the image of sessions, which has to be on the engine (debian:12 where none is named). With a
    /// name before it, as in rust=rust:1.90, that of templates whose `base` is that name; give it several times.
    #[arg(long = "image", value_name = "[BASE=]IMAGE")]
    images: Vec<String>,
    /// With --runtime docker: the agent that is put into containers, linked statically; by default `flare-agent` beside this
    /// program.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Where builds and snapshots are stored: `folder` below the data folder, or
    /// `s3://BUCKET/PREFIX?endpoint=URL&region=NAME` with the credentials of the environment.
    #[arg(long, value_name = "PLACE", default_value = "folder")]
    blobs: BlobsPlace,
    /// The way out of sessions.
    #[arg(long, value_enum, default_value_t = Network::Proxy)]
    network: Network,
    /// A folder of tools that every session gets read-only, its `bin` on PATH; give it several times.
    #[arg(long = "tool", value_name = "FOLDER")]
    tools: Vec<PathBuf>,
    /// Addresses that sessions may reach although they are private; give it several times.
    #[arg(long = "egress-allow", value_name = "CIDR")]
    egress_allow: Vec<Cidr>,
}

/// What sessions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// Processes of this machine, kept apart by its kernel.
    Sandbox,
    /// Containers of this machine's Docker engine.
    Docker,
}

/// The way out of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// A network of their own; a proxy of this server is the only way out.
    Proxy,
    /// This machine's network: no protection of what listens on it.
    Host,
    /// A network of their own, joined to this machine's by pasta.
    Pasta,
}

impl Common {
    fn data_dir(&self) -> Result<PathBuf, Failure> {
        self.data_dir.as_deref().map_or_else(place::data_dir, place::absolute)
    }

    /// How the plant is to be built.
    ///
    /// # Errors
    /// When an option or the environment is not acceptable.
    pub(super) fn options(
        &self,
        registration: Registration,
        plan: &'static str,
        fallback: Fallback,
    ) -> Result<Options, Failure> {
        let data_dir = self.data_dir()?;
        let machines = match self.runtime {
            Runtime::Sandbox => self.sandbox(data_dir.clone(), fallback)?,
            Runtime::Docker => self.docker(data_dir.clone())?,
        };
        Ok(Options { data_dir, blobs: self.blobs.clone(), registration, plan, machines })
    }

    fn docker(&self, data_dir: PathBuf) -> Result<MachineConfig, Failure> {
        if self.network != Network::Proxy {
            return Err(Failure::new(Exit::Unsupported, "--runtime docker supports --network proxy alone")
                .hint("Leave --network out; --egress-allow CIDR opens private addresses."));
        }
        let variable = |name: &str| std::env::var(name).ok();
        let mut config = docker_config(data_dir, self.agent.as_deref(), &self.images, variable)?;
        config.egress = EgressConfig { allow: self.egress_allow.clone(), upstream: upstream(variable)? };
        config.tools = self.tools()?;
        Ok(MachineConfig::Docker(config))
    }

    fn tools(&self) -> Result<Vec<PathBuf>, Failure> {
        self.tools.iter().map(|tool| place::absolute(tool)).collect()
    }

    fn sandbox(&self, data_dir: PathBuf, fallback: Fallback) -> Result<MachineConfig, Failure> {
        if self.agent.is_some() || !self.images.is_empty() {
            return Err(Failure::usage("--image and --agent are for --runtime docker")
                .hint("The process sandbox shows this machine's own programs; it has no images."));
        }
        let mut sandbox = SandboxConfig::new(data_dir, AgentCommand::this_program());
        sandbox.network = match self.network {
            Network::Proxy => NetworkMode::Proxy,
            Network::Host => NetworkMode::Host,
            Network::Pasta => NetworkMode::Pasta,
        };
        let variable = |name: &str| std::env::var(name).ok();
        sandbox.egress = EgressConfig { allow: self.egress_allow.clone(), upstream: upstream(variable)? };
        sandbox.tools = self.tools()?;
        sandbox.fallback = fallback;
        Ok(MachineConfig::Sandbox(sandbox))
    }
}

/// Says what people should know about the machines here.
pub(super) fn warn(context: &Context, plant: &Plant) {
    let profile = plant.machines.profile();
    if profile.isolation == Isolation::Process {
        context.output.warn("this machine cannot isolate sessions: they run as plain processes with your rights. `flare doctor` prints the cure.");
    }
    for warning in profile.warnings.iter().map(String::as_str).chain(plant.blobs_warning()) {
        context.output.warn(warning);
    }
}

/// Stops answering, lets what runs end for a moment, and closes the records; a signal ends the waiting.
pub(super) async fn end(
    plant: Plant,
    stop: &watch::Sender<bool>,
    answering: JoinHandle<()>,
    signals: &mut Signals,
) {
    let _ = stop.send(true);
    let ended = async {
        let _ = answering.await;
        plant.end().await;
    };
    tokio::select! {
        () = ended => {}
        () = signals.next() => {}
    }
}

/// The signals that end a server.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::local("cannot listen to signals", error);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// What `work` answers, or nothing when a signal comes first.
    pub(super) async fn unless<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        tokio::select! {
            done = work => done.map(Some),
            () = self.next() => Ok(None),
        }
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Takes as many descriptors as the system grants without asking: every session's connections hold some, and the usual
/// first limit of 1,024 is soon used up. Machines have a limit of their own.
pub(super) fn descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The server's log, on standard error; `FLARE_LOG` says how much of it.
pub(super) fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLARE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
}
