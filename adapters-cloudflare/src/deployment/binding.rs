//! Names that the Worker's code and its deployment have to agree on.

/// The records: D1.
pub const DATABASE: &str = "DB";
/// Bundles, layers, logs, snapshots: R2.
pub const BLOBS: &str = "BLOBS";
/// What was worked out and may be forgotten: KV.
pub const CACHE: &str = "CACHE";
/// Jobs: the queue's producer.
pub const JOBS: &str = "JOBS";
/// Builds: a workflow.
pub const BUILDS: &str = "BUILDS";
/// The class of those workflows.
pub const BUILD_CLASS: &str = "BuildWorkflow";
/// Live hints, one object for each workspace: a Durable Object namespace.
pub const WORKSPACES: &str = "WORKSPACES";
/// The class of those objects.
pub const WORKSPACE_CLASS: &str = "WorkspaceObject";
/// Rate limits: name, calls, seconds.
pub const RATES: [(&str, u32, u32); 2] = [("RATE_60_60", 60, 60), ("RATE_600_60", 600, 60)];
/// One object for each machine: a Durable Object namespace.
pub const MACHINES: &str = "MACHINES";
/// The class of those objects.
pub const MACHINE_CLASS: &str = "Machine";
/// The image of sessions, among those that an object may choose.
pub const SESSION_IMAGE: &str = "session";
