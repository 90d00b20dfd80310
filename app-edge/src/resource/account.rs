use burstflare_ports::id::Id;
use burstflare_ports::record::{self, Role};
use burstflare_ports::secret::Secret;
use burstflare_ports::text::Email;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Workspace;
use super::schema::RoleWord;

/// Makes an account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// The address of the new user.
    #[schema(value_type = String, format = Email, example = "you@example.com", max_length = 254)]
    pub email: Email,
    /// A bootstrap or invite code, where registration needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<Secret<String>>,
}

/// Signs in by one of the recovery codes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverRequest {
    /// The address of the user.
    #[schema(value_type = String, format = Email, example = "you@example.com", max_length = 254)]
    pub email: Email,
    /// A code that was not used yet.
    #[schema(value_type = String)]
    pub code: Secret<String>,
}

/// Exchanges a refresh token for new tokens.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The newest refresh token; using one twice ends the sign-in.
    #[schema(value_type = String)]
    pub refresh_token: Secret<String>,
}

/// A person's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its id.
    #[schema(value_type = String, example = "usr_01JD0000000000000000000000")]
    pub id: Id<record::User>,
    /// Its address.
    #[schema(value_type = String, format = Email)]
    pub email: Email,
    /// When the address was proven; an unproven one confers nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub email_verified_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The tokens of a sign-in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// Goes into `Authorization: Bearer …`; good for an hour.
    #[schema(value_type = String)]
    pub access_token: Secret<String>,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    pub access_expires_at: Timestamp,
    /// Good for one `POST /api/v1/auth/refresh`.
    #[schema(value_type = String)]
    pub refresh_token: Secret<String>,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    pub refresh_expires_at: Timestamp,
}

/// A new account, with what is shown once and never again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    /// The user.
    pub user: User,
    /// Their personal workspace.
    pub workspace: Workspace,
    /// What they may do there.
    #[schema(value_type = RoleWord)]
    pub role: Role,
    /// Ten codes, each good for one sign-in.
    #[schema(value_type = Vec<String>)]
    pub recovery_codes: Vec<Secret<String>>,
    /// The tokens.
    pub tokens: Tokens,
}

/// A sign-in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// The user.
    pub user: User,
    /// The workspace the tokens are for.
    pub workspace: Workspace,
    /// What the user may do there.
    #[schema(value_type = RoleWord)]
    pub role: Role,
    /// The tokens.
    pub tokens: Tokens,
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The user.
    pub user: User,
    /// The workspace of the token.
    pub workspace: Workspace,
    /// What the user may do there.
    #[schema(value_type = RoleWord)]
    pub role: Role,
}

impl From<record::User> for User {
    fn from(user: record::User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            email_verified_at: user.email_verified_at,
            created_at: user.created_at,
        }
    }
}
