//! The file for wrangler, made out of the description and what was found at the account.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burstflare_adapters_cloudflare::deployment::Deployment;
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::place;

/// Its first line.
const HEAD: &str = "// Made by `flare cloudflare generate` out of cloudflare.toml: edit that one.\n";

/// A file that is there or not.
#[derive(Debug)]
pub struct GeneratedFile {
    path: PathBuf,
}

impl GeneratedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content as it is; `None` where it is not there or was not made by us.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> Result<Option<Value>, Failure> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(serde_json::from_str(text.strip_prefix(HEAD).unwrap_or(&text)).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::local(format_args!("cannot read {}", self.path.display()), error)),
        }
    }

    /// The names of what differs from the description, at the top of the file; empty where nothing does.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn drift(&self, deployment: &Deployment) -> Result<Vec<String>, Failure> {
        let wanted = deployment.wrangler();
        let Some(there) = self.read()? else { return Ok(vec!["the whole file".to_owned()]) };
        let empty = serde_json::Map::new();
        let (wanted, there) = (wanted.as_object().unwrap_or(&empty), there.as_object().unwrap_or(&empty));
        let mut names: Vec<String> =
            wanted.keys().chain(there.keys().filter(|name| !wanted.contains_key(*name))).cloned().collect();
        names.retain(|name| wanted.get(name) != there.get(name));
        names.sort();
        Ok(names)
    }

    /// Writes it in one step. There is no secret in it, so everybody may read it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, deployment: &Deployment) -> Result<(), Failure> {
        let text = format!("{HEAD}{:#}\n", deployment.wrangler());
        place::replace(&self.path, text.as_bytes(), 0o644).map_err(|error| {
            Failure::new(Exit::Other, format!("cannot write {}: {error}", self.path.display()))
        })
    }
}
