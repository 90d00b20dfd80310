//! Host keys: one file per host, so that it is replaced in one step and two connections never meet in it.

use std::path::{Path, PathBuf};

use crate::client::Origin;
use crate::exit::{Exit, Failure};
use crate::place;

/// The folder of one server's host keys.
#[derive(Debug)]
pub struct KnownHosts {
    dir: PathBuf,
}

impl KnownHosts {
    /// The folder for a server. Its name is a digest, because a session of one server must never be taken for one
    /// of the same name of another.
    #[must_use]
    pub fn new(config_dir: &Path, origin: &Origin) -> Self {
        let digest = blake3::hash(origin.to_string().as_bytes()).to_hex();
        Self { dir: super::dir(config_dir).join("known_hosts").join(&digest[..16]) }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a host's key is kept.
    #[must_use]
    pub fn file(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }

    /// Makes the key that the server's API names the only one that the host may have.
    ///
    /// # Errors
    /// When it is no key, or cannot be written.
    pub fn pin(&self, host: &str, key: &str) -> Result<(), Failure> {
        let mut words = key.split_ascii_whitespace();
        let (Some(kind), Some(data)) = (words.next(), words.next()) else {
            return Err(Failure::new(Exit::Other, "the server names no SSH host key for this session"));
        };
        place::private_dir(&self.dir)?;
        let path = self.file(host);
        // The file belongs to this one host, under whatever name and port OpenSSH looks it up.
        let line = format!("* {kind} {data}\n");
        if std::fs::read_to_string(&path).is_ok_and(|present| present == line) {
            return Ok(());
        }
        place::replace(&path, line.as_bytes(), 0o600)
            .map_err(|error| Failure::local(format_args!("cannot write {}", path.display()), error))
    }
}
