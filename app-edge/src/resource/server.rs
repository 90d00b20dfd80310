use std::collections::BTreeMap;

use burstflare_ports::machine::{Enforcement, Isolation, RuntimeProfile};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::{EnforcementWord, IsolationWord};

/// What machines run on here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Runtime {
    /// `sandbox`, `docker`, …
    pub name: String,
    /// How machines are kept apart.
    #[schema(value_type = IsolationWord)]
    pub isolation: Isolation,
    /// The way out: `proxy`, `host`, `pasta` or `none`.
    pub network: String,
    /// How far each limit holds.
    #[schema(value_type = BTreeMap<String, EnforcementWord>)]
    pub limits: BTreeMap<String, Enforcement>,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// What a visitor may know of this server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// The server's version.
    pub version: String,
    /// Who may make an account: `open`, `invite` or `closed`.
    pub registration: String,
    /// What machines run on here.
    pub runtime: Runtime,
}

/// The server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The server's version.
    pub version: String,
}

/// Whether the server can work, dependency by dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether all of them answer.
    pub ready: bool,
    /// By name.
    pub probes: BTreeMap<String, Probe>,
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// Whether it answers.
    pub ok: bool,
    /// What is wrong, without details that only the log may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl From<RuntimeProfile> for Runtime {
    fn from(profile: RuntimeProfile) -> Self {
        Self {
            name: profile.name,
            isolation: profile.isolation,
            network: profile.network,
            limits: profile.limits,
            warnings: profile.warnings,
        }
    }
}
