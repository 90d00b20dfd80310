//! Ports: what listens in a machine, and how a call of the edge reaches it.
//!
//! `…/http/REST` is the application's request with the target `/REST`: method, query, body and end-to-end headers (RFC 9110,
//! section 7.6.1) are passed on both ways, 101 included. `Authorization` and `Host` are the agent's own on this connection, so
//! the application's travel as [`APP_AUTHORIZATION_HEADER`] and [`APP_HOST_HEADER`]. An answer with [`APP_ANSWER_HEADER`]
//! is the application's; one without is a refusal of the agent.
//!
//! `…/tcp` is a WebSocket: binary messages are the bytes of one TCP connection, an empty one is the end of its direction.

use serde::{Deserialize, Serialize};

/// Carries the application's `Authorization`.
pub const APP_AUTHORIZATION_HEADER: &str = "flare-app-authorization";
/// Carries the application's `Host`.
pub const APP_HOST_HEADER: &str = "flare-app-host";
/// Marks an answer as the application's.
pub const APP_ANSWER_HEADER: &str = "flare-app-answer";
/// The most ports that are reported; the lowest ones.
pub const PORTS_LIMIT: usize = 256;

/// What listens now: the answer of `GET /v1/ports`, and each line of `GET /v1/ports/watch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPorts {
    /// In order, each once.
    pub ports: Vec<OpenPort>,
}

/// A TCP port that a process of the machine listens on, reachable over the machine's loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPort {
    /// The port.
    pub port: u16,
    /// The process's name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}
