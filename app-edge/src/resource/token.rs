use burstflare_ports::id::Id;
use burstflare_ports::record::{self, Scope};
use burstflare_ports::secret::Secret;
use burstflare_ports::text::DisplayName;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::ScopeWord;

/// Makes a personal token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is called: 1 to 100 characters.
    #[schema(value_type = String, example = "ci", max_length = 100)]
    pub name: DisplayName,
    /// What it may be used for; at least one.
    #[schema(value_type = Vec<ScopeWord>)]
    pub scopes: Vec<Scope>,
    /// For how long it is good, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A personal token, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    #[schema(value_type = String, example = "tok_01JD0000000000000000000000")]
    pub id: Id<record::Token>,
    /// What it is called.
    #[schema(value_type = Option<String>)]
    pub name: Option<DisplayName>,
    /// What it may be used for.
    #[schema(value_type = Vec<ScopeWord>)]
    pub scopes: Vec<Scope>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A new personal token, with its text, which is shown once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    #[serde(flatten)]
    pub about: Token,
    /// Goes into `Authorization: Bearer …`.
    #[schema(value_type = String)]
    pub token: Secret<String>,
}

impl From<record::Token> for Token {
    fn from(token: record::Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            scopes: token.scopes,
            created_at: token.created_at,
            expires_at: token.expires_at,
        }
    }
}
