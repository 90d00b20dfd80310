//! OpenSSH's ends of the ProxyCommand: our standard input and output.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

/// What the kernel may hold in each pipe, where it lets us ask for it.
const PIPE: usize = 1 << 20;

/// Where OpenSSH writes.
pub(super) type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Where OpenSSH reads.
pub(super) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Standard input: by the reactor where it is a pipe, as under OpenSSH, else by a thread.
pub(super) fn input() -> io::Result<Input> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    widen(&fd);
    Ok(match pipe::Receiver::from_owned_fd(fd) {
        Ok(receiver) => Box::new(receiver),
        Err(_) => Box::new(tokio::io::stdin()),
    })
}

/// Standard output, likewise.
pub(super) fn output() -> io::Result<Output> {
    let fd = io::stdout().as_fd().try_clone_to_owned()?;
    widen(&fd);
    Ok(match pipe::Sender::from_owned_fd(fd) {
        Ok(sender) => Box::new(sender),
        Err(_) => Box::new(tokio::io::stdout()),
    })
}

/// Fewer turns per megabyte; where it is refused it only takes longer.
fn widen(fd: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE);
}
