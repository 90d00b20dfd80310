//! Machines as sandboxed processes of this host: namespaces, no capabilities, a system call filter, limits.
//!
//! A machine is a tree of processes whose first one is the agent, in user, mount, pid, ipc, uts and net namespaces of
//! its own. It sees a root made for it (`layout`) and writes only to the two persisted roots (overlays of the
//! session's disk on a layer) and to sized memory file systems. Host uid 0 is never mapped into it: started by root
//! it gets an unused host user of its own, started by anybody else it is that user, and inside it is `flare` (1000).
//!
//! The server's death ends no machine. Its folder (`record`) says which process it is; the next server finds it
//! there, holds it, and serves its way out again.
//!
//! Limits: processor, memory and processes by control groups where this server may make some, else by resource
//! limits and by watching; the disk is watched (`watch`).

mod begin;
mod cgroup;
mod child;
pub(crate) mod config;
mod copy;
mod disk;
mod idmap;
mod job;
mod kernel;
mod layer;
pub(crate) mod layout;
mod live;
mod operations;
mod plan;
mod probe;
mod process;
pub(crate) mod record;
mod remove;
pub(crate) mod runtime;
mod seccomp;
mod spawn;
mod users;
mod watch;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use crate::machine::egress::fuzzing;
pub use crate::machine::egress::{Cidr, InvalidCidr};
pub use config::{
    AgentCommand, EgressConfig, Fallback, HostUsers, NetworkMode, SandboxConfig, UpstreamProxy,
};
pub use probe::{Check, CheckState};
pub use runtime::SandboxRuntime;
pub use watch::{Notice, NoticeKind};

use std::io;

use burstflare_ports::error::{ErrorKind, PortError};

/// Turns an error of the host into a port's.
pub(crate) fn failed<E: Into<io::Error>>(
    operation: &'static str,
    context: impl Into<String>,
) -> impl FnOnce(E) -> PortError {
    move |error| {
        let error: io::Error = error.into();
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Internal,
        };
        PortError::new(kind, operation, context).with_source(error)
    }
}
