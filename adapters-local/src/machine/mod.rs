//! What the runtimes of this host have in common: the line to a machine's agent, its way out, the order of starts.

pub(crate) mod egress;
pub(crate) mod link;
pub(crate) mod socket;
pub(crate) mod tools;
pub(crate) mod turns;
mod visit;

/// Where a machine's way out is bound into it: the folder of this path.
pub(crate) const EGRESS_SOCKET: &str = "/run/flare/egress/proxy.sock";
/// Where tool folders are bound into machines.
pub(crate) const TOOLS: &str = "/opt/flare/tools";
