//! How the fields of records are kept: ids and hashes as their text, moments as milliseconds, states by their name,
//! opaque parts as JSON.

use std::fmt::Display;
use std::str::FromStr;

use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::{Id, Kind};
use burstflare_ports::record::{
    Actor, BuildState, BundleRef, Effect, Failure, Goal, GrantKind, LayerRef, Origin, PackState,
    ReleaseCause, Role, Scope, SecretHash, SessionKeys, SessionState, Sharing, SnapshotKind, SnapshotState,
    StopCause, TicketPurpose, TokenKind, VersionSpec, VersionState, Visibility,
};
use burstflare_ports::text::{DisplayName, Email, Label, Slug, VariableName};
use burstflare_ports::time::Timestamp;

use crate::database::{Row, Value};

/// The largest whole number that a JavaScript number, and so D1, keeps exactly.
pub(crate) const MAX_INTEGER: i64 = 9_007_199_254_740_991;

/// A field of a record as a value of the database.
pub(crate) trait Column: Sized {
    fn encode(&self) -> PortResult<Value>;
    /// `None` where the value is none that was ever encoded.
    fn decode(value: Value) -> Option<Self>;
}

/// Takes a row apart, column by column.
pub(crate) struct Reader {
    values: std::vec::IntoIter<Value>,
}

impl Reader {
    pub(crate) fn new(row: Row) -> Self {
        Self { values: row.0.into_iter() }
    }

    /// The next column; `name` is for the error.
    pub(crate) fn next<C: Column>(&mut self, name: &'static str) -> PortResult<C> {
        self.values.next().and_then(C::decode).ok_or_else(|| {
            PortError::new(
                ErrorKind::Corrupt,
                "store.read",
                format!("the column {name} holds no valid value"),
            )
        })
    }

    /// Whether the next column is empty.
    pub(crate) fn at_null(&self) -> bool {
        matches!(self.values.as_slice().first(), Some(Value::Null) | None)
    }
}

fn from_text<T: FromStr>(value: Value) -> Option<T> {
    match value {
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn to_text(value: &impl Display) -> Value {
    Value::Text(value.to_string())
}

impl<K: Kind> Column for Id<K> {
    fn encode(&self) -> PortResult<Value> {
        Ok(to_text(self))
    }
    fn decode(value: Value) -> Option<Self> {
        from_text(value)
    }
}

macro_rules! text_columns {
    ($($kind:ty),+ $(,)?) => {$(
        impl Column for $kind {
            fn encode(&self) -> PortResult<Value> {
                Ok(to_text(self))
            }
            fn decode(value: Value) -> Option<Self> {
                from_text(value)
            }
        }
    )+};
}
text_columns!(String, Slug, Email, Label, DisplayName, BlobKey, SecretHash, VariableName);

macro_rules! named_columns {
    ($($kind:ty),+ $(,)?) => {$(
        impl Column for $kind {
            fn encode(&self) -> PortResult<Value> {
                match serde_json::to_value(self) {
                    Ok(serde_json::Value::String(name)) => Ok(Value::Text(name)),
                    _ => Err(unwritable(stringify!($kind))),
                }
            }
            fn decode(value: Value) -> Option<Self> {
                match value {
                    Value::Text(name) => serde_json::from_value(serde_json::Value::String(name)).ok(),
                    _ => None,
                }
            }
        }
    )+};
}
named_columns!(
    BuildState,
    Goal,
    GrantKind,
    PackState,
    ReleaseCause,
    Role,
    SessionState,
    Sharing,
    SnapshotKind,
    SnapshotState,
    StopCause,
    TicketPurpose,
    TokenKind,
    VersionState,
    Visibility,
);

macro_rules! json_columns {
    ($($kind:ty),+ $(,)?) => {$(
        impl Column for $kind {
            fn encode(&self) -> PortResult<Value> {
                serde_json::to_string(self).map(Value::Text).map_err(|_| unwritable(stringify!($kind)))
            }
            fn decode(value: Value) -> Option<Self> {
                match value {
                    Value::Text(json) => serde_json::from_str(&json).ok(),
                    _ => None,
                }
            }
        }
    )+};
}
json_columns!(
    Actor,
    BundleRef,
    Effect,
    Failure,
    LayerRef,
    Origin,
    SessionKeys,
    Vec<Scope>,
    VersionSpec,
    serde_json::Value,
);

impl Column for Timestamp {
    fn encode(&self) -> PortResult<Value> {
        Ok(Value::Int(self.millis()))
    }
    fn decode(value: Value) -> Option<Self> {
        i64::decode(value).map(Self::from_millis)
    }
}

impl Column for bool {
    fn encode(&self) -> PortResult<Value> {
        Ok(Value::Int(i64::from(*self)))
    }
    fn decode(value: Value) -> Option<Self> {
        i64::decode(value).map(|number| number != 0)
    }
}

impl Column for i64 {
    fn encode(&self) -> PortResult<Value> {
        Ok(Value::Int(*self))
    }
    fn decode(value: Value) -> Option<Self> {
        match value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }
}

impl Column for u64 {
    fn encode(&self) -> PortResult<Value> {
        match i64::try_from(*self) {
            Ok(number) if number <= MAX_INTEGER => Ok(Value::Int(number)),
            _ => Err(PortError::new(
                ErrorKind::Invalid,
                "store.write",
                format!("{self} is over {MAX_INTEGER}"),
            )),
        }
    }
    fn decode(value: Value) -> Option<Self> {
        i64::decode(value).and_then(|number| number.try_into().ok())
    }
}

impl Column for u16 {
    fn encode(&self) -> PortResult<Value> {
        Ok(Value::Int(i64::from(*self)))
    }
    fn decode(value: Value) -> Option<Self> {
        i64::decode(value).and_then(|number| number.try_into().ok())
    }
}

impl Column for u32 {
    fn encode(&self) -> PortResult<Value> {
        Ok(Value::Int(i64::from(*self)))
    }
    fn decode(value: Value) -> Option<Self> {
        i64::decode(value).and_then(|number| number.try_into().ok())
    }
}

impl<C: Column> Column for Option<C> {
    fn encode(&self) -> PortResult<Value> {
        self.as_ref().map_or(Ok(Value::Null), C::encode)
    }
    fn decode(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => C::decode(other).map(Some),
        }
    }
}

fn unwritable(what: &str) -> PortError {
    PortError::new(ErrorKind::Internal, "store.write", format!("{what} has no stored form"))
}
