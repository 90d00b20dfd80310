//! Typed, prefixed, sortable identifiers: `ses_01JD…`, a prefix and a ULID (48 bits of milliseconds, 80 bits
//! of randomness, Crockford base 32).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Timestamp;

/// What an [`Id`] identifies. Implemented by records.
pub trait Kind: 'static {
    /// Three letters before the underscore.
    const PREFIX: &'static str;
    /// The noun for error messages, for example `session`.
    const NOUN: &'static str;
}

/// An identifier of one kind of record.
pub struct Id<K: Kind> {
    bits: u128,
    kind: PhantomData<fn() -> K>,
}

/// Text that is no identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {noun} id: expected `{prefix}_` and 26 letters and digits")]
pub struct InvalidId {
    noun: &'static str,
    prefix: &'static str,
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 26;

impl<K: Kind> Id<K> {
    /// Makes an id from a moment and 10 random bytes. Ids made later sort later, to the millisecond;
    /// core makes those of one process in order within it too.
    #[must_use]
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        let millis = u128::from(at.millis().max(0).cast_unsigned()) & 0xFFFF_FFFF_FFFF;
        let mut low = 0_u128;
        for byte in random {
            low = (low << 8) | u128::from(byte);
        }
        Self { bits: (millis << 80) | low, kind: PhantomData }
    }

    /// The id of these 128 bits: 48 of milliseconds, 80 of randomness.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self { bits, kind: PhantomData }
    }

    /// The 128 bits below the text.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.bits
    }

    /// The ULID alone in lower case, as it stands in host names of previews.
    #[must_use]
    pub fn ulid_lower(self) -> String {
        self.ulid().to_ascii_lowercase()
    }

    fn ulid(self) -> String {
        (0..LENGTH)
            .rev()
            .map(|place| {
                let digit = usize::try_from((self.bits >> (place * 5)) & 31).unwrap_or_default();
                char::from(ALPHABET[digit])
            })
            .collect()
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = InvalidId;

    /// Parses the text form; letters may come in either case.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refuse = InvalidId { noun: K::NOUN, prefix: K::PREFIX };
        let ulid =
            text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(refuse.clone())?;
        if ulid.len() != LENGTH {
            return Err(refuse);
        }
        let mut bits = 0_u128;
        for (index, byte) in ulid.bytes().enumerate() {
            let upper = byte.to_ascii_uppercase();
            let digit = ALPHABET.iter().position(|letter| *letter == upper).ok_or(refuse.clone())?;
            // 26 digits of 5 bits are 130: the first may only carry three.
            if index == 0 && digit > 7 {
                return Err(refuse);
            }
            bits = (bits << 5) | digit as u128;
        }
        Ok(Self { bits, kind: PhantomData })
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", K::PREFIX, self.ulid())
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K: Kind> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: Kind> Copy for Id<K> {}
impl<K: Kind> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}
impl<K: Kind> Eq for Id<K> {}
impl<K: Kind> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: Kind> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bits.cmp(&other.bits)
    }
}
impl<K: Kind> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}
impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Session, Template};

    #[test]
    fn text_form_round_trips_in_either_case() {
        let id = Id::<Session>::new(Timestamp::from_millis(1_700_000_000_000), [7; 10]);
        let text = id.to_string();
        assert_eq!(text.len(), 30);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(format!("ses_{}", id.ulid_lower()).parse(), Ok(id));
    }

    #[test]
    fn later_ids_sort_later_as_text_too() {
        let early = Id::<Session>::new(Timestamp::from_millis(1), [255; 10]);
        let late = Id::<Session>::new(Timestamp::from_millis(2), [0; 10]);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn other_kinds_and_malformed_text_are_refused() {
        let id = Id::<Session>::new(Timestamp::from_millis(1), [1; 10]).to_string();
        assert!(id.parse::<Id<Template>>().is_err());
        for bad in ["", "ses_", "ses_01", "ses_ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "ses_0000000000000000000000000U"]
        {
            assert!(bad.parse::<Id<Session>>().is_err(), "{bad}");
        }
    }
}
