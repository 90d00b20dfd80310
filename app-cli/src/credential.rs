//! Credentials: one file, one entry per origin, readable by its owner alone. An entry never goes to another origin.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use burstflare_ports::secret::Secret;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Call, Client, Origin};
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::place;

/// A token that expires within this time is refreshed before it is used.
const EARLY: Duration = Duration::from_secs(120);

/// The tokens of one sign-in, as the server gave them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tokens {
    /// For requests.
    pub access_token: Secret<String>,
    /// Until when.
    pub access_expires_at: Timestamp,
    /// For one refresh.
    pub refresh_token: Secret<String>,
    /// Until when.
    pub refresh_expires_at: Timestamp,
}

impl Tokens {
    /// Takes the tokens out of an answer, so that the rest of it can be shown.
    ///
    /// # Errors
    /// When there are none.
    pub fn take(document: &mut Value) -> Result<Self, Failure> {
        let tokens = document.as_object_mut().and_then(|fields| fields.remove("tokens")).unwrap_or_default();
        serde_json::from_value(tokens).map_err(|_| {
            Failure::new(Exit::Other, "the server's answer holds no tokens")
                .hint("Is it a newer server? Update `flare`.")
        })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    tokens: Tokens,
    #[serde(default)]
    email: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    /// The origin of the newest sign-in: what commands without `--url` talk to.
    current: Option<String>,
    #[serde(default)]
    origins: BTreeMap<String, Entry>,
}

/// The file of credentials.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The file in this folder.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The origin of the newest sign-in.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn current(&self) -> Result<Option<Origin>, Failure> {
        self.read()?.current.as_deref().map(Origin::parse).transpose()
    }

    /// Keeps the tokens of a sign-in and makes its origin the current one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sign_in(&self, origin: &Origin, tokens: Tokens, email: Option<&str>) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let mut contents = self.read()?;
        let entry = Entry { tokens, email: email.map(str::to_owned) };
        contents.origins.insert(origin.to_string(), entry);
        contents.current = Some(origin.to_string());
        self.write(&contents)
    }

    /// Forgets the tokens of an origin.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sign_out(&self, origin: &Origin) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let mut contents = self.read()?;
        contents.origins.remove(&origin.to_string());
        // The origin stays current: `flare auth login` gets back to where one was.
        self.write(&contents)
    }

    /// Makes sure that tokens can be kept, before a server is asked for some that are given once.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn prepare(&self) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let contents = self.read()?;
        self.write(&contents)
    }

    /// Whether there are tokens for an origin, good or not.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn knows(&self, origin: &Origin) -> Result<bool, Failure> {
        Ok(self.tokens(origin)?.is_some())
    }

    fn tokens(&self, origin: &Origin) -> Result<Option<Tokens>, Failure> {
        Ok(self.read()?.origins.remove(&origin.to_string()).map(|entry| entry.tokens))
    }

    fn path(&self) -> PathBuf {
        self.dir.join("credentials.json")
    }

    fn read(&self) -> Result<Contents, Failure> {
        let path = self.path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::default()),
            Err(error) => return Err(Failure::local(format_args!("cannot read {}", path.display()), error)),
        };
        serde_json::from_slice(&bytes).map_err(|_| {
            Failure::new(Exit::Auth, format!("{} is damaged", path.display()))
                .hint("Remove it and sign in again with `flare auth login`.")
        })
    }

    fn write(&self, contents: &Contents) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(contents)
            .map_err(|error| Failure::local("cannot write credentials", error))?;
        let path = self.path();
        place::replace(&path, &text, 0o600)
            .map_err(|error| Failure::local(format_args!("cannot write {}", path.display()), error))
    }

    /// Held by who changes the file, and by who refreshes: a refresh token is good for one process.
    fn lock(&self) -> Result<File, Failure> {
        place::private_dir(&self.dir)?;
        let path = self.dir.join("credentials.lock");
        let failed = |error| Failure::local(format_args!("cannot lock {}", path.display()), error);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }
}

/// What proves to a server who asks.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// Nothing.
    Nobody,
    /// A token from the environment; nothing is stored or refreshed.
    Given(Secret<String>),
    /// What is stored for the origin.
    Stored(Store),
}

impl Bearer {
    /// A token that is good now, refreshed where it is about to expire.
    ///
    /// # Errors
    /// `Auth` when there is none.
    pub async fn current(&self, client: &Client) -> Result<Option<String>, Failure> {
        let store = match self {
            Self::Nobody => return Ok(None),
            Self::Given(token) => return Ok(Some(token.expose().clone())),
            Self::Stored(store) => store,
        };
        let tokens = store.tokens(client.origin())?.ok_or_else(|| signed_out(client.origin()))?;
        if tokens.access_expires_at > now().after(EARLY) {
            return Ok(Some(tokens.access_token.into_inner()));
        }
        let stale = tokens.access_token.expose().clone();
        Ok(Some(refresh(client.clone(), store.clone(), stale).await?))
    }

    /// After a refusal of `refused`: whether there is another token now.
    ///
    /// # Errors
    /// `Auth` when the sign-in is over.
    pub async fn renew(&self, client: &Client, refused: Option<&str>) -> Result<bool, Failure> {
        match (self, refused) {
            (Self::Stored(store), Some(refused)) => {
                refresh(client.clone(), store.clone(), refused.to_owned()).await.map(|_| true)
            }
            _ => Ok(false),
        }
    }
}

/// Exchanges the refresh token, unless another process did so while we waited for the lock. Runs to its end even if
/// the command is interrupted: the old refresh token is spent the moment the server reads it.
///
/// Boxed by name: sending a call may refresh, and refreshing sends a call (which, being anonymous, does not).
fn refresh(
    client: Client,
    store: Store,
    stale: String,
) -> Pin<Box<dyn Future<Output = Result<String, Failure>> + Send>> {
    let work = async move {
        let _guard = interrupt::guard();
        let locking = store.clone();
        let _lock = tokio::task::spawn_blocking(move || locking.lock())
            .await
            .map_err(|error| Failure::local("cannot refresh", error))??;
        let origin = client.origin();
        let mut contents = store.read()?;
        let entry = contents.origins.get_mut(&origin.to_string()).ok_or_else(|| signed_out(origin))?;
        if *entry.tokens.access_token.expose() != stale && entry.tokens.access_expires_at > now() {
            return Ok(entry.tokens.access_token.expose().clone());
        }
        let call = Call::post(&["auth", "refresh"])
            .anonymous()
            .within(Duration::from_secs(20))
            .json(&json!({ "refresh_token": entry.tokens.refresh_token.expose() }));
        let mut document = client.json(&call).await.map_err(|failure| match failure.exit {
            Exit::Auth => Failure { exit: Exit::Auth, hint: signed_out(origin).hint, ..failure },
            _ => failure,
        })?;
        // Both forms: the tokens themselves, or a sign-in that holds them.
        entry.tokens = if document.get("tokens").is_some() {
            Tokens::take(&mut document)?
        } else {
            Tokens::take(&mut json!({ "tokens": document }))?
        };
        let fresh = entry.tokens.access_token.expose().clone();
        store.write(&contents)?;
        Ok(fresh)
    };
    Box::pin(
        async move { tokio::spawn(work).await.map_err(|error| Failure::local("cannot refresh", error))? },
    )
}

/// The present moment.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Nobody is signed in there.
#[must_use]
pub fn signed_out(origin: &Origin) -> Failure {
    Failure::new(Exit::Auth, format!("you are not signed in at {origin}")).hint(format!(
        "New here: `flare auth register --email YOU@EXAMPLE.COM --url {origin}`. Otherwise: `flare auth login --email YOU@EXAMPLE.COM --recovery-code CODE --url {origin}`."
    ))
}
