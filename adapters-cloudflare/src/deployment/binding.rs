//! Names that the Worker's code and its deployment have to agree on.

/// The records: D1.
pub const DATABASE: &str = "DB";
/// Bundles, layers, logs, snapshots: R2.
pub const BLOBS: &str = "BLOBS";
/// One object for each machine: a Durable Object namespace.
pub const MACHINES: &str = "MACHINES";
/// The class of those objects.
pub const MACHINE_CLASS: &str = "Machine";
/// The image of sessions, among those that an object may choose.
pub const SESSION_IMAGE: &str = "session";
