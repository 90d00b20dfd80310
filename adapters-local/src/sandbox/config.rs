//! What a sandbox is set up with. Everything is given: nothing here reads the environment.

use std::path::PathBuf;

use burstflare_ports::secret::Secret;

use crate::machine::egress::Cidr;

/// How the agent is run. The program is opened once; replacing the file later does not concern running servers.
#[derive(Debug, Clone)]
pub struct AgentCommand {
    /// A program that is an agent when its `argv[0]` is [`burstflare_ports::wire::AGENT_ARGV0`].
    pub exe: PathBuf,
}

impl AgentCommand {
    /// This very program, which then has to hand over to the agent first in `main`.
    #[must_use]
    pub fn this_program() -> Self {
        Self { exe: PathBuf::from("/proc/self/exe") }
    }
}

/// A machine's way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// A network of its own, with a proxy of the server as the only way out.
    #[default]
    Proxy,
    /// The host's network: ports of sessions collide, and loopback services of the host can be reached.
    Host,
    /// A network of its own, joined to the host's by `pasta`.
    Pasta,
}

/// What to do where the kernel refuses isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// Start no machine.
    #[default]
    Refuse,
    /// Start plain processes in a folder of their own, without any isolation, and say so.
    Process,
}

/// A proxy that the server itself has to use.
#[derive(Debug, Clone)]
pub struct UpstreamProxy {
    /// `host:port`; it is spoken to in plain HTTP.
    pub address: String,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Secret<String>>,
    /// Hosts that are reached without it: names (with everything below them) and addresses.
    pub bypass: Vec<String>,
}

/// What machines may reach through the egress proxy.
#[derive(Debug, Clone, Default)]
pub struct EgressConfig {
    /// Addresses that are allowed although they are the host's, private or otherwise not public.
    pub allow: Vec<Cidr>,
    /// The server's own proxy.
    pub upstream: Option<UpstreamProxy>,
}

/// Host user ids that nobody uses, for a server run by root.
#[derive(Debug, Clone, Copy)]
pub struct HostUsers {
    /// Owns the shared layers.
    pub layers: u32,
    /// The first one for machines.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl HostUsers {
    /// Whether a user is one for machines.
    pub(super) fn holds(&self, user: u32) -> bool {
        user.checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }
}

impl Default for HostUsers {
    /// Far above what useradd hands out as subordinate ids (they would give a user power over machines), and above
    /// systemd's container ids, which end at 1,879,048,191 (systemd, UIDS-GIDS).
    fn default() -> Self {
        Self { layers: 1_899_999_999, first: 1_900_000_000, count: 65_536 }
    }
}

/// Everything a [`super::SandboxRuntime`] is made from.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Machines, layers and what is being removed lie below it.
    pub data_dir: PathBuf,
    /// The agent.
    pub agent: AgentCommand,
    /// The way out of machines.
    pub network: NetworkMode,
    /// What the way out leads to.
    pub egress: EgressConfig,
    /// Folders of the host that every machine gets read-only below `/opt/flare/tools`; their `bin` is put on PATH.
    pub tools: Vec<PathBuf>,
    /// What to do where the kernel refuses isolation.
    pub fallback: Fallback,
    /// Host user ids, for a server run by root.
    pub users: HostUsers,
}

impl SandboxConfig {
    /// The defaults: the egress proxy, no tools, no fallback.
    #[must_use]
    pub fn new(data_dir: PathBuf, agent: AgentCommand) -> Self {
        Self {
            data_dir,
            agent,
            network: NetworkMode::default(),
            egress: EgressConfig::default(),
            tools: Vec::new(),
            fallback: Fallback::default(),
            users: HostUsers::default(),
        }
    }
}
