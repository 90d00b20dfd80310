//! Small texts with rules, parsed at the border and never rechecked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that does not follow the rule of its type; the message says the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct InvalidText {
    rule: &'static str,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $accepts:expr, $normalise:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidText;
            fn from_str(text: &str) -> Result<Self, InvalidText> {
                let accepts: fn(&str) -> bool = $accepts;
                let normalise: fn(&str) -> String = $normalise;
                let kept = normalise(text);
                // The form that is kept is read again: lower case may be longer than what it was made of.
                if accepts(text) && accepts(&kept) { Ok(Self(kept)) } else { Err(InvalidText { rule: $rule }) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidText;
            fn try_from(text: String) -> Result<Self, InvalidText> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// Name of a template, session or workspace: 1 to 63 of `a-z 0-9 -`, beginning and ending with a letter or digit.
    Slug,
    "a name is 1 to 63 of a-z, 0-9 and -, and begins and ends with a letter or digit",
    |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    },
    str::to_owned
);

text_type!(
    /// A version's label: 1 to 64 of `A-Z a-z 0-9 . _ + -`.
    Label,
    "a version label is 1 to 64 of A-Z, a-z, 0-9, '.', '_', '+' and '-'",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
    },
    str::to_owned
);

text_type!(
    /// An e-mail address: one `@`, 3 to 254 bytes, no spaces or control characters, a dotted or local domain. Kept in lower case.
    Email,
    "an e-mail address looks like name@example.com and has at most 254 characters",
    |text| {
        let Some((local, domain)) = text.split_once('@') else { return false };
        text.len() <= 254
            && (1..=64).contains(&local.len())
            && local.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"\"(),:;<>[\\]".contains(c))
            && !domain.is_empty()
            && domain.split('.').all(|part| {
                !part.is_empty()
                    && !part.starts_with('-')
                    && !part.ends_with('-')
                    && part.chars().all(|c| c.is_alphanumeric() || c == '-')
            })
    },
    str::to_lowercase
);

text_type!(
    /// A free name shown to people (of a token, say): 1 to 100 characters without control characters.
    DisplayName,
    "a display name has 1 to 100 characters and no control characters",
    |text| {
        !text.trim().is_empty() && text.chars().count() <= 100 && !text.chars().any(char::is_control)
    },
    |text| text.trim().to_owned()
);

text_type!(
    /// Name of an environment variable: 1 to 128 of `A-Z a-z 0-9 _`, not beginning with a digit.
    VariableName,
    "a variable's name is 1 to 128 of A-Z, a-z, 0-9 and _, and does not begin with a digit",
    |text| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !text.starts_with(|first: char| first.is_ascii_digit())
    },
    str::to_owned
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        for good in ["a", "node-dev", "0", &"a".repeat(63)] {
            assert!(good.parse::<Slug>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "ä", "a b", &"a".repeat(64), &"a".repeat(10_000)] {
            assert!(bad.parse::<Slug>().is_err(), "{bad}");
        }
    }

    #[test]
    fn emails() {
        assert_eq!("You@Example.com".parse::<Email>().map(String::from), Ok("you@example.com".to_owned()));
        for good in ["a@b", "you@example.com", "first.last+tag@sub.example.org"] {
            assert!(good.parse::<Email>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "you",
            "@b",
            "a@",
            "a@@b",
            "a b@c",
            "a@b..c",
            "a@-b",
            "a@\u{130}.b",
            "a\n@b",
            "a@b\r\nBcc: c",
        ] {
            assert!(bad.parse::<Email>().is_err(), "{bad}");
        }
    }
}
