use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};

/// A data folder that this process owns: mode 0700, and locked for as long as a clone of this value lives.
///
/// The lock is advisory and close-on-exec, so machines that outlive the server do not keep it.
#[derive(Debug, Clone)]
pub struct DataFolder {
    path: PathBuf,
    _lock: Arc<File>,
}

impl DataFolder {
    /// Makes the folder where it is missing, and locks it.
    ///
    /// # Errors
    /// `Conflict`, naming the process, where another one has it.
    pub fn open(path: impl Into<PathBuf>) -> PortResult<Self> {
        let path = path.into();
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    ErrorKind::Denied
                }
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
                _ => ErrorKind::Unavailable,
            };
            PortError::new(kind, "folder.open", format!("cannot use {} as data folder", path.display()))
                .with_source(error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(taken(&path, &mut lock)),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(pid.as_bytes()))
            .map_err(failed)?;
        Ok(Self { path, _lock: Arc::new(lock) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn taken(path: &Path, lock: &mut File) -> PortError {
    let mut holder = String::new();
    // The holder writes its number right after locking; who comes in between sees none.
    let _ = lock.read_to_string(&mut holder);
    let by = match holder.trim() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    };
    PortError::new(
        ErrorKind::Conflict,
        "folder.open",
        format!("the data folder {} is in use by {by}; stop it, or choose another folder", path.display()),
    )
}
