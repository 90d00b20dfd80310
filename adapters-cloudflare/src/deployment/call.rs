//! Calls of Cloudflare's REST API, as data. Who sends them, how often and how long is somebody else's matter.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method, in capitals.
    pub method: &'static str,
    /// Path and query, behind the API's base.
    pub path: String,
    /// What is sent.
    pub body: Option<Body>,
}

/// What a call sends. It may hold a secret, so it does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    /// Its media type.
    pub media: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.media, self.bytes.len())
    }
}

impl Call {
    /// Reads what the segments name, each percent-encoded.
    #[must_use]
    pub fn get(segments: &[&str]) -> Self {
        Self::new("GET", segments)
    }

    /// Sends a document.
    #[must_use]
    pub fn post(segments: &[&str], document: &Value) -> Self {
        Self::new("POST", segments).json(document)
    }

    /// Puts a document in the place of what is there.
    #[must_use]
    pub fn put(segments: &[&str], document: &Value) -> Self {
        Self::new("PUT", segments).json(document)
    }

    pub(super) fn new(method: &'static str, segments: &[&str]) -> Self {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            encode(&mut path, segment);
        }
        Self { method, path, body: None }
    }

    fn json(mut self, document: &Value) -> Self {
        self.body = Some(Body { media: "application/json", bytes: document.to_string().into_bytes() });
        self
    }

    pub(super) fn body(mut self, media: &'static str, text: String) -> Self {
        self.body = Some(Body { media, bytes: text.into_bytes() });
        self
    }

    /// Adds a parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        encode(&mut self.path, value);
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.method == "GET"
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_cannot_become_paths() {
        let call = Call::get(&["accounts", "../x?y"]).query("name", "*.a&b").query("page", "2");
        assert_eq!(call.path, "/accounts/..%2Fx%3Fy?name=%2A.a%26b&page=2");
        assert!(call.reads());
    }

    #[test]
    fn what_is_sent_is_not_shown() {
        let call = Call::put(&["secrets"], &json!({ "text": "hush" }));
        assert!(!format!("{call:?}").contains("hush") && !call.reads());
    }
}
