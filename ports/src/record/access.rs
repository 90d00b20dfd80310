use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Membership, Role, Session, User, Workspace};
use crate::id::{Id, Kind};
use crate::machine::Epoch;
use crate::text::DisplayName;
use crate::time::Timestamp;

/// What is stored of a secret text: BLAKE3 of its bytes. The texts have 256 random bits, so no salt is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(*blake3::hash(text.as_bytes()).as_bytes())
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hash {:02x}{:02x}…", self.0[0], self.0[1])
    }
}

impl FromStr for SecretHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| "not 64 hexadecimal digits")?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One signing-in and everything that was refreshed from it. Revoking it revokes all its tokens at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Key.
    pub id: Id<SignIn>,
    /// Who signed in.
    pub user: Id<User>,
    /// The one workspace its tokens are for.
    pub workspace: Id<Workspace>,
    /// When.
    pub created_at: Timestamp,
    /// When it was ended: by logout, by reuse of a refresh token, or by an admin.
    pub revoked_at: Option<Timestamp>,
    /// Commits so far.
    pub revision: u64,
}

/// What a token is for; one type is never accepted for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// For an hour, from signing in or refreshing.
    Access,
    /// A person's own, with a name, scopes and expiry.
    Personal,
}

/// What a personal token may be used for; access tokens have all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Requests that change nothing.
    Read,
    /// Requests that change something.
    Write,
    /// Getting into machines: attach, exec.
    Attach,
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Key; shown in lists and audit.
    pub id: Id<Token>,
    /// What it is for.
    pub kind: TokenKind,
    /// Of its text.
    pub hash: SecretHash,
    /// Where it came from.
    pub sign_in: Id<SignIn>,
    /// Whose it is.
    pub user: Id<User>,
    /// The one workspace it is for.
    pub workspace: Id<Workspace>,
    /// A personal token's name.
    pub name: Option<DisplayName>,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// When it was revoked by itself.
    pub revoked_at: Option<Timestamp>,
    /// Commits so far.
    pub revision: u64,
}

/// Everything known about the bearer of a token, read in one query. Expiry and revocation are the reader's to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The token.
    pub token: Token,
    /// Its sign-in.
    pub sign_in: SignIn,
    /// The user.
    pub user: User,
    /// The workspace.
    pub workspace: Workspace,
    /// The user's membership in it; none when they were removed.
    pub membership: Option<Membership>,
}

/// What a single-use secret of the directory grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantKind {
    /// New tokens for its sign-in; spending it twice revokes the sign-in.
    Refresh,
    /// A sign-in of its user.
    Recovery,
    /// Membership in its workspace, with its role.
    Invite,
    /// The right to register the first operator of a deployment.
    Bootstrap,
}

/// A single-use secret of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Key.
    pub id: Id<Grant>,
    /// What it grants.
    pub kind: GrantKind,
    /// Of its text.
    pub hash: SecretHash,
    /// Whose it is (refresh, recovery) or who made it (invite).
    pub user: Option<Id<User>>,
    /// The sign-in a refresh belongs to.
    pub sign_in: Option<Id<SignIn>>,
    /// The workspace of an invite.
    pub workspace: Option<Id<Workspace>>,
    /// The role an invite gives.
    pub role: Option<Role>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// When it was spent.
    pub spent_at: Option<Timestamp>,
}

/// What a runtime ticket opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TicketPurpose {
    /// One SSH connection.
    Ssh,
    /// One look at a terminal.
    Terminal,
    /// Entering the preview of one port with a browser.
    Preview,
    /// One connection to one port.
    Forward,
    /// One command with its standard input.
    Exec,
}

/// A single-use ticket of workspace data: for one session, one purpose, one epoch, 60 seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Key.
    pub id: Id<Ticket>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The session it opens.
    pub session: Id<Session>,
    /// Who asked for it.
    pub user: Id<User>,
    /// With which token; what it opens ends with the token.
    pub token: Id<Token>,
    /// The sign-in of that token, which outlives it when it is refreshed.
    pub sign_in: Id<SignIn>,
    /// What for.
    pub purpose: TicketPurpose,
    /// The life of the machine it is valid for.
    pub epoch: Epoch,
    /// The public key that may log in, in OpenSSH's one-line format.
    pub ssh_key: Option<String>,
    /// The port it opens.
    pub port: Option<u16>,
    /// Of its text.
    pub hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// When it was spent.
    pub spent_at: Option<Timestamp>,
}

impl Kind for SignIn {
    const PREFIX: &'static str = "sgn";
    const NOUN: &'static str = "sign-in";
}

impl Kind for Token {
    const PREFIX: &'static str = "tok";
    const NOUN: &'static str = "token";
}

impl Kind for Grant {
    const PREFIX: &'static str = "grt";
    const NOUN: &'static str = "grant";
}

impl Kind for Ticket {
    const PREFIX: &'static str = "tkt";
    const NOUN: &'static str = "ticket";
}
