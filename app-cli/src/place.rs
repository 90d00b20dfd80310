//! Where things lie on this machine: the folder of credentials and keys, and the data folder of `flare dev`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::exit::Failure;

/// The folder of this user's credentials and keys: `FLARE_CONFIG_DIR`, else `$XDG_CONFIG_HOME/flare`, else
/// `~/.config/flare`. Absolute, whatever the variables hold.
///
/// # Errors
/// When no variable names a home.
pub fn config_dir() -> Result<PathBuf, Failure> {
    if let Some(dir) = variable("FLARE_CONFIG_DIR") {
        return absolute(&dir);
    }
    xdg("XDG_CONFIG_HOME", ".config", "flare")
}

/// The data folder of `flare dev`: `$XDG_DATA_HOME/burstflare/dev`, else below `~/.local/share`.
///
/// # Errors
/// When no variable names a home.
pub fn data_dir() -> Result<PathBuf, Failure> {
    xdg("XDG_DATA_HOME", ".local/share", "burstflare/dev")
}

fn xdg(name: &str, fallback: &str, below: &str) -> Result<PathBuf, Failure> {
    // The XDG base directory specification: relative paths are to be ignored.
    if let Some(dir) = variable(name).filter(|dir| dir.is_absolute()) {
        return Ok(dir.join(below));
    }
    let home = home().ok_or_else(|| {
        Failure::usage("there is no home folder: HOME is not set")
            .hint("Set HOME, or FLARE_CONFIG_DIR and --data-dir to absolute paths.")
    })?;
    Ok(home.join(fallback).join(below))
}

/// `$HOME`, or the home folder of the user database where it is not set.
#[must_use]
pub fn home() -> Option<PathBuf> {
    variable("HOME").or_else(passwd_home)
}

/// The home folder of the user database: the one OpenSSH looks at, whatever `$HOME` says.
#[must_use]
pub fn passwd_home() -> Option<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()))?;
    line.split(':').nth(5).filter(|home| !home.is_empty()).map(PathBuf::from)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A path that stays right in another working folder.
///
/// # Errors
/// When the working folder is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::local(path.display(), error))
}

/// Makes a folder that only its owner may enter.
///
/// # Errors
/// When the system refuses.
pub fn private_dir(dir: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        Failure::local(format_args!("cannot make {}", dir.display()), error)
            .hint("Check its permissions, or name another folder with FLARE_CONFIG_DIR.")
    })
}

/// Replaces a file in one step by one with this mode: a reader sees the old one or the new one, also after a crash.
///
/// # Errors
/// When the system refuses; the old file is as it was then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let fresh = dir.join(format!(".{name}.{}.{count}.new", std::process::id()));
    let written = (|| {
        let _ = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        io::Write::write_all(&mut file, bytes)?;
        // The mode of `open` is cut by the umask; this one is meant.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        fs::File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}
