use burstflare_ports::machine::{Enforcement, RuntimeProfile};
use burstflare_ports::record::VersionSpec;
use burstflare_ports::wire;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::{EnforcementWord, MetricsSourceWord, ReasonWord};

/// What a session's machine uses right now. It is measured when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionMetrics {
    /// Where processor and memory were read: the machine's control group, or its processes one by one.
    #[schema(value_type = MetricsSourceWord)]
    pub source: wire::MetricsSource,
    /// Processor, in thousandths of a core.
    pub cpu_millicores: Gauge,
    /// Processor time in this life, in milliseconds.
    pub cpu_ms: u64,
    /// Memory, in bytes.
    pub memory: Gauge,
    /// Files below /workspace and /home/flare, the template's included, in bytes.
    pub disk: Gauge,
    /// Whether the disk was looked at to its end; otherwise it is at least so much.
    pub disk_complete: bool,
    /// Processes.
    pub processes: Gauge,
    /// Since the machine started, in milliseconds.
    pub uptime_ms: u64,
    /// Since the user was last active, in milliseconds.
    pub idle_ms: u64,
    /// What that activity was.
    #[schema(value_type = ReasonWord)]
    pub active_by: wire::Reason,
}

/// How much of something is used, and how much there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gauge {
    /// In use.
    pub used: u64,
    /// What the template promises; null where that is not known.
    pub limit: Option<u64>,
    /// How far the limit holds.
    #[schema(value_type = EnforcementWord)]
    pub enforcement: Enforcement,
}

impl SessionMetrics {
    /// From what the agent measured, what the version promises, and what the runtime enforces.
    #[must_use]
    pub fn new(metrics: &wire::Metrics, spec: Option<&VersionSpec>, runtime: &RuntimeProfile) -> Self {
        let limits = spec.map(|spec| spec.limits);
        let gauge = |used, name: &str, limit: Option<u64>| Gauge {
            used,
            limit,
            enforcement: runtime.limits.get(name).copied().unwrap_or(Enforcement::None),
        };
        Self {
            source: metrics.source,
            cpu_millicores: gauge(
                metrics.cpu_millicores,
                "cpu",
                limits.map(|limits| u64::from(limits.cpu_millis)),
            ),
            cpu_ms: metrics.cpu_ms,
            memory: gauge(metrics.memory, "memory", limits.map(|limits| limits.memory)),
            disk: gauge(metrics.disk, "disk", limits.map(|limits| limits.disk)),
            disk_complete: metrics.disk_complete,
            processes: gauge(metrics.processes, "pids", limits.map(|limits| u64::from(limits.pids))),
            uptime_ms: metrics.uptime_ms,
            idle_ms: metrics.activity.last_active_ms_ago,
            active_by: metrics.activity.reason,
        }
    }
}
