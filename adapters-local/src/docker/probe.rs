//! What this host has, for doctor and for the profile.

use std::path::Path;

use burstflare_ports::error::PortResult;

use super::agent;
use super::config::DockerConfig;
use super::engine::{Engine, Facts};
use super::labels::Deployment;
use crate::sandbox::{Check, CheckState};

fn check(name: &str, state: CheckState, detail: String, cure: Option<String>) -> Check {
    Check { name: name.to_owned(), state, detail, cure }
}

/// The engine that answers.
pub(super) fn engine(facts: &Facts) -> Check {
    let bounds = [("cpu", facts.cpu), ("memory", facts.memory), ("pids", facts.pids)];
    let missing: Vec<&str> = bounds.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name).collect();
    let detail = format!("version {}", facts.version);
    if missing.is_empty() {
        return check("docker engine", CheckState::Ok, detail, None);
    }
    let detail = format!("{detail}; it bounds no {}", missing.join(", "));
    check(
        "docker engine",
        CheckState::Degraded,
        detail,
        Some("enable these control groups on the host".to_owned()),
    )
}

/// The agent that was found.
pub(super) fn agent(path: &Path) -> Check {
    check("agent for containers", CheckState::Ok, path.display().to_string(), None)
}

/// The image of sessions.
pub(super) async fn image(engine: &Engine, image: &str) -> PortResult<Check> {
    Ok(if engine.has_image(image).await? {
        check("image", CheckState::Ok, image.to_owned(), None)
    } else {
        let detail = format!("{image} is not on the engine: sessions cannot start");
        check("image", CheckState::Degraded, detail, Some(format!("docker pull {image}")))
    })
}

/// Everything that a server with this configuration needs, one line each.
pub(super) async fn checks(config: &DockerConfig) -> Vec<Check> {
    let missing = |name: &str, error: &burstflare_ports::error::PortError, cure: &str| {
        check(name, CheckState::Degraded, error.context().to_owned(), Some(cure.to_owned()))
    };
    // It asks for nothing of a deployment's.
    let nobody = Deployment("doctor".to_owned());
    let mut found = match Engine::connect(&config.socket, nobody).await {
        Ok(connected) => vec![engine(&connected.facts)],
        Err(error) => vec![missing(
            "docker engine",
            &error,
            "needed for --runtime docker alone: apt-get install docker.io",
        )],
    };
    found.push(match agent::find(&config.agent) {
        Ok(path) => agent(&path),
        Err(error) => missing("agent for containers", &error, super::AGENT_CURE),
    });
    found
}
