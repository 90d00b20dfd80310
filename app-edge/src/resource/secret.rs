use burstflare_ports::id::Id;
use burstflare_ports::record;
use burstflare_ports::secret::Secret as Hidden;
use burstflare_ports::text::VariableName;
use burstflare_ports::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Sets a secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// Any text of at most 65,536 bytes without NUL. It is never shown again.
    #[serde(deserialize_with = "hidden")]
    #[schema(value_type = String, max_length = 65_536)]
    pub value: Hidden<String>,
}

/// Text, or an error that does not quote what there is instead.
fn hidden<'de, D: Deserializer<'de>>(from: D) -> Result<Hidden<String>, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::String(text) => Ok(Hidden::new(text)),
        _ => Err(D::Error::custom("a value has to be text")),
    }
}

/// A secret of the workspace, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// Its id.
    #[schema(value_type = String, example = "sec_01JD0000000000000000000000")]
    pub id: Id<record::SecretEntry>,
    /// The variable that processes find it in.
    #[schema(value_type = String, example = "API_TOKEN", max_length = 128)]
    pub name: VariableName,
    /// Counts its values.
    pub version: u64,
    /// Bytes of its value.
    pub bytes: u64,
    /// Who set it last.
    #[schema(value_type = String)]
    pub changed_by: Id<record::User>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was set last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

impl From<record::SecretEntry> for Secret {
    fn from(secret: record::SecretEntry) -> Self {
        Self {
            id: secret.id,
            name: secret.name,
            version: secret.revision,
            bytes: secret.bytes,
            changed_by: secret.changed_by,
            created_at: secret.created_at,
            changed_at: secret.changed_at,
        }
    }
}
