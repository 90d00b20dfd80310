//! Names of what an agent can beyond version 1: the words of [`super::Ready::capabilities`].

/// Tells when its user was last active.
pub const ACTIVITY: &str = "activity";
/// Ports: what listens, and the way to it.
pub const PORTS: &str = "ports";
/// Terminals with several viewers.
pub const TERMINALS: &str = "terminals";
/// What the machine uses.
pub const METRICS: &str = "metrics";
/// Files by path, search, and folders as archives.
pub const FILES: &str = "files";
/// Incremental snapshots in packs: [`super::snapshot`].
pub const SNAPSHOTS: &str = super::snapshot::CAPABILITY;
/// `PUT /v1/secrets`.
pub const SECRETS: &str = "secrets";
/// Commands with standard input, a terminal, limits of output, and over a WebSocket.
pub const EXEC_STREAMS: &str = "exec-streams";
