//! The control plane on this machine: what `flare dev` and `flare serve` have in common.

mod blobs;
mod egress;
mod key;
mod lines;
mod listen;
mod machines;
mod status;
mod wiring;

pub use blobs::{BlobsPlace, tried};
pub use egress::upstream;
pub use key::{earlier_master_keys, master_key};
pub use lines::next_lines;
pub use listen::{Listeners, loopback};
pub use machines::{MachineConfig, Machines, docker_config};
pub use status::Status;
pub use wiring::{Options, Plant};

use burstflare_ports::error::{ErrorKind, PortError};

use crate::exit::{Exit, Failure};

/// What a failing port means to who starts a server.
#[must_use]
pub fn failure(error: &PortError) -> Failure {
    let mut message = error.context().to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    let (exit, hint) = match error.kind() {
        ErrorKind::Conflict => {
            (Exit::Conflict, "Stop the other one, or choose another folder with --data-dir.")
        }
        ErrorKind::Full => (Exit::Limit, "Make room on the disk, or choose another folder with --data-dir."),
        ErrorKind::Denied => {
            (Exit::Other, "Check who owns the folder, or choose another one with --data-dir.")
        }
        ErrorKind::Unsupported => {
            (Exit::Unsupported, "`flare doctor` lists what this machine lacks, with the cure.")
        }
        ErrorKind::Invalid => (Exit::Usage, "Correct the option and try again."),
        ErrorKind::Corrupt => (Exit::Other, "Restore the data folder from a backup, or choose another one."),
        _ => (Exit::Other, "`flare doctor` looks for what is wrong."),
    };
    Failure::new(exit, message).hint(hint)
}
