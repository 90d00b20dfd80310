//! What every command is given: where to print, whom to talk to, and as whom.

use std::path::PathBuf;

use burstflare_ports::secret::Secret;

use crate::client::{Client, Origin};
use crate::credential::{Bearer, Store};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::place;

/// The surroundings of one command.
#[derive(Debug)]
pub struct Context {
    /// Where to print.
    pub output: Output,
    url: Option<String>,
    config_dir: Option<PathBuf>,
}

impl Context {
    /// From the global options.
    #[must_use]
    pub fn new(output: Output, url: Option<String>, config_dir: Option<PathBuf>) -> Self {
        Self { output, url, config_dir }
    }

    /// The surroundings of a command that another one runs at this server, with the caller's folder of credentials or
    /// another one. What it answers is kept, see [`Output::hearing`].
    #[must_use]
    pub fn hearing(&self, origin: &Origin, config_dir: Option<PathBuf>) -> Self {
        Self {
            output: self.output.hearing(),
            url: Some(origin.to_string()),
            config_dir: config_dir.or_else(|| self.config_dir.clone()),
        }
    }

    /// The folder of credentials and keys, absolute.
    ///
    /// # Errors
    /// When no variable names a home.
    pub fn config_dir(&self) -> Result<PathBuf, Failure> {
        match &self.config_dir {
            Some(dir) => place::absolute(dir),
            None => place::config_dir(),
        }
    }

    /// The file of credentials.
    ///
    /// # Errors
    /// As [`Context::config_dir`].
    pub fn store(&self) -> Result<Store, Failure> {
        Ok(Store::new(self.config_dir()?))
    }

    /// The server that `--url`, `FLARE_URL` or the newest sign-in name, in this order.
    ///
    /// # Errors
    /// When none does, or what they say is no server.
    pub fn origin(&self) -> Result<Origin, Failure> {
        if let Some(url) = &self.url {
            return Origin::parse(url);
        }
        if let Some(url) = text_variable("FLARE_URL")? {
            return Origin::parse(&url);
        }
        self.store()?.current()?.ok_or_else(|| {
            Failure::new(Exit::Auth, "you are not signed in anywhere").hint(
                "Begin with `flare auth register --email YOU@EXAMPLE.COM --url http://127.0.0.1:8787`, or name a server with `--url`.",
            )
        })
    }

    /// A client that acts as the user.
    ///
    /// # Errors
    /// When there is no server to talk to.
    pub fn client(&self) -> Result<Client, Failure> {
        let bearer = match self.given_token()? {
            Some(token) => Bearer::Given(token),
            None => Bearer::Stored(self.store()?),
        };
        Ok(Client::new(self.origin()?, bearer))
    }

    /// A client without credentials.
    ///
    /// # Errors
    /// When there is no server to talk to.
    pub fn anonymous(&self) -> Result<Client, Failure> {
        let origin = self.origin()?;
        if !origin.is_secure() && !origin.is_loopback() {
            self.output.warn(&format!("{origin} is not encrypted: anybody on the way can read your tokens."));
        }
        Ok(Client::new(origin, Bearer::Nobody))
    }

    /// The token of the environment. It belongs to `FLARE_URL`, which has to be there and to be the server in use.
    ///
    /// # Errors
    /// When it stands alone.
    pub fn given_token(&self) -> Result<Option<Secret<String>>, Failure> {
        let Some(token) = text_variable("FLARE_TOKEN")? else { return Ok(None) };
        let Some(url) = text_variable("FLARE_URL")? else {
            return Err(Failure::usage(
                "FLARE_TOKEN is set, but not FLARE_URL: no server is named that it is for",
            )
            .hint("Set FLARE_URL to the server's URL, or unset FLARE_TOKEN."));
        };
        // A token never goes to another origin than its own.
        let ours = Origin::parse(&url)? == self.origin()?;
        Ok(ours.then(|| Secret::new(token.trim().to_owned())))
    }
}

fn text_variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!("{name} is not text"))),
    }
}
