//! The deployment's master key: it seals what is secret at rest.
//!
//! A new one takes the place of the old one while the server does not run: append `master.key` to `master.key.earlier`,
//! write 32 random bytes into `master.key`, both with mode 0600. Data keys are sealed anew by the server's first
//! reconciling; keys of sessions' machines by their next start, and host keys stay sealed by the key of their time.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use burstflare_ports::secret::Secret;

use crate::exit::{Exit, Failure};
use crate::place;

/// Reads the key of a data folder that this process has locked; makes one where the folder is new.
///
/// # Errors
/// When it cannot be read or written, is damaged, is readable by others, or is missing beside records it has sealed.
pub fn master_key(data_dir: &Path) -> Result<Secret<[u8; 32]>, Failure> {
    let path = data_dir.join("master.key");
    let failed = |error: io::Error| Failure::local(format_args!("cannot use {}", path.display()), error);
    match fs::read(&path) {
        Ok(bytes) => {
            check_mode(&path)?;
            bytes.try_into().map(Secret::new).map_err(|_| {
                Failure::new(Exit::Other, format!("{} is damaged: it has to have 32 bytes", path.display()))
                    .hint("Restore it from a backup: nothing that it sealed can be read without it.")
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if data_dir.join("records.sqlite").exists() {
                return Err(Failure::new(Exit::Other, format!("{} is missing", path.display()))
                    .hint("Restore it from a backup: the records beside it are sealed by it."));
            }
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| Failure::local("cannot make a key", error))?;
            place::replace(&path, &key, 0o600).map_err(failed)?;
            Ok(Secret::new(key))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Reads the master keys of before: 32 bytes each, the oldest first. No file, no keys.
///
/// # Errors
/// When they cannot be read, are damaged, or are readable by others.
pub fn earlier_master_keys(data_dir: &Path) -> Result<Vec<Secret<[u8; 32]>>, Failure> {
    let path = data_dir.join("master.key.earlier");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::local(format_args!("cannot use {}", path.display()), error)),
    };
    check_mode(&path)?;
    let (keys, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        let what = format!("{} is damaged: it has to have 32 bytes for each key", path.display());
        return Err(Failure::new(Exit::Other, what).hint("Restore it from a backup."));
    }
    Ok(keys.iter().rev().map(|key| Secret::new(*key)).collect())
}

fn check_mode(path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::local(format_args!("cannot use {}", path.display()), error);
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let word = crate::text::shell_word(&path.display().to_string());
    Err(Failure::new(Exit::Other, format!("{} is readable by others", path.display()))
        .hint(format!("Take that away: chmod 600 {word}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_never_for_old_records() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = master_key(dir.path()).expect("a key");
        assert!(first == master_key(dir.path()).expect("the key"));
        fs::set_permissions(dir.path().join("master.key"), fs::Permissions::from_mode(0o644)).expect("set");
        assert!(master_key(dir.path()).is_err(), "readable by others");
        fs::remove_file(dir.path().join("master.key")).expect("removed");
        fs::write(dir.path().join("records.sqlite"), b"").expect("written");
        assert!(master_key(dir.path()).is_err(), "records without their key");
    }
}
