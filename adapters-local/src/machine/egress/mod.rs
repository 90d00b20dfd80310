//! The way out of a machine: an HTTP proxy of the server, one socket per machine.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod policy;
mod proxy;

pub use policy::{Cidr, InvalidCidr};
pub(crate) use proxy::{Egress, serve};

use super::socket;

/// Listens where a machine's proxy is expected: in the folder `egress` of the machine's own.
pub(crate) fn listen(machine: &Path) -> io::Result<UnixListener> {
    let place = machine.join("egress");
    match fs::create_dir(&place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The folder is bound into the machine, whose user is another one: only there can both be reached.
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    let listener = socket::listen(&place, "proxy.sock", 0o666)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
