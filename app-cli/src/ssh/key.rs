//! The user's own key for sessions: ed25519, made at first use, readable by its owner alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;

use crate::exit::Failure;
use crate::place;

/// A key pair: where its private half lies, and its public half.
#[derive(Debug)]
pub struct Key {
    /// File of the private half.
    pub path: PathBuf,
    /// The public half in OpenSSH's one-line format.
    pub public: String,
}

impl Key {
    /// The key in the folder of credentials; makes one where there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn ensure(config_dir: &Path) -> Result<Self, Failure> {
        let path = super::dir(config_dir).join("id_ed25519");
        if let Some(key) = Self::read(&path)? {
            return Ok(key);
        }
        place::private_dir(&super::dir(config_dir))?;
        make(&path)?;
        Self::read(&path)?.ok_or_else(|| Failure::local(path.display(), "it vanished"))
    }

    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::local(format_args!("cannot read {}", path.display()), error)),
        };
        let damaged = |error: &dyn std::fmt::Display| {
            Failure::local(format_args!("{} is no usable key", path.display()), error)
                .hint("Remove it: the next `flare ssh` makes a new one.")
        };
        let private = PrivateKey::from_openssh(&text).map_err(|error| damaged(&error))?;
        let public = private.public_key().to_openssh().map_err(|error| damaged(&error))?;
        Ok(Some(Self { path: path.to_owned(), public }))
    }
}

fn make(path: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::local("cannot make a key", error);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| failed(&error))?;
    let mut private = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    private.set_comment("flare");
    let text = private.to_openssh(LineEnding::LF).map_err(|error| failed(&error))?;
    let public = private.public_key().to_openssh().map_err(|error| failed(&error))?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    place::replace(&fresh, text.as_bytes(), 0o600).map_err(|error| failed(&error))?;
    // Two first uses at once: the one that links first has made the key, the other one takes it.
    let linked = fs::hard_link(&fresh, path);
    let _ = fs::remove_file(&fresh);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(failed(&error)),
    }
    place::replace(&path.with_extension("pub"), format!("{public}\n").as_bytes(), 0o644)
        .map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Key::ensure(dir.path()).expect("a key");
        let mode = fs::metadata(&first.path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.public.starts_with("ssh-ed25519 AAAA"), "{}", first.public);
        let again = Key::ensure(dir.path()).expect("the key");
        assert_eq!(again.public, first.public);
        let left: Vec<_> = fs::read_dir(super::super::dir(dir.path())).expect("a folder").collect();
        assert_eq!(left.len(), 2, "only the two halves are there");
    }
}
