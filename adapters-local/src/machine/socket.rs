//! Unix sockets by folder handle: a path of them may have 107 bytes, which data folders exceed.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A folder, and the short path of a name in it, good while the handle is held.
struct Short {
    _folder: OwnedFd,
    path: PathBuf,
}

impl Short {
    fn new(folder: &Path, name: &str) -> io::Result<Self> {
        let handle =
            rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()));
        Ok(Self { _folder: handle, path })
    }
}

/// Listens on a name in a folder, in the place of what an earlier server or life left there.
pub(crate) fn listen(folder: &Path, name: &str, mode: u32) -> io::Result<UnixListener> {
    let short = Short::new(folder, name)?;
    match fs::remove_file(&short.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&short.path)?;
    fs::set_permissions(&short.path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Connects to a name in a folder.
pub(crate) async fn connect(folder: &Path, name: &str) -> io::Result<tokio::net::UnixStream> {
    let short = Short::new(folder, name)?;
    tokio::net::UnixStream::connect(&short.path).await
}
