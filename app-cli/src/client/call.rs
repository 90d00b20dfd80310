//! One request, described so that it can be sent again.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::secret::Secret;
use bytes::Bytes;
use http::Method;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;

/// What travels as a body.
pub type Payload = BoxBody<Bytes, std::io::Error>;
/// Makes the body anew for every try.
pub type MakePayload = Arc<dyn Fn() -> Payload + Send + Sync>;

/// How long the head of an answer may take.
const HEAD: Duration = Duration::from_secs(60);

/// A request to the API.
#[derive(Clone)]
pub struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) payload: MakePayload,
    pub(super) media: Option<&'static str>,
    pub(super) length: Option<u64>,
    pub(super) accept: &'static str,
    pub(super) deadline: Duration,
    pub(super) idempotency: Option<String>,
    pub(super) last_event: Option<String>,
    pub(super) anonymous: bool,
    /// Shown to a session's preview instead of credentials of ours.
    pub(super) visitor: Option<Secret<String>>,
    single: bool,
}

impl Call {
    /// A call of `/api/v1/` and the segments, each percent-encoded.
    #[must_use]
    pub fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = "/api/v1".to_owned();
        for segment in segments {
            path.push('/');
            encode(&mut path, segment);
        }
        Self {
            method,
            path,
            payload: Arc::new(|| Empty::new().map_err(|never| match never {}).boxed()),
            media: None,
            length: None,
            accept: "application/json, application/problem+json",
            deadline: HEAD,
            idempotency: None,
            last_event: None,
            anonymous: false,
            visitor: None,
            single: false,
        }
    }

    /// Reads.
    #[must_use]
    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// Does something.
    #[must_use]
    pub fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// Outside `/api/v1`: `/healthz` and `/readyz`.
    #[must_use]
    pub fn probe(path: &str) -> Self {
        let mut call = Self::new(Method::GET, &[]);
        path.clone_into(&mut call.path);
        call.anonymous = true;
        call
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

    /// Adds a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        let bytes = Bytes::from(body.to_string());
        self.length = Some(bytes.len() as u64);
        self.payload = Arc::new(move || Full::new(bytes.clone()).map_err(|never| match never {}).boxed());
        self.media = Some("application/json");
        self
    }

    /// Adds a body of another type.
    #[must_use]
    pub fn body(mut self, media: &'static str, length: u64, payload: MakePayload) -> Self {
        self.media = Some(media);
        self.length = Some(length);
        self.payload = payload;
        self
    }

    /// Adds a body that flows and can be made once only: the call is never sent again by itself.
    #[must_use]
    pub fn flowing(mut self, media: &'static str, length: Option<u64>, payload: MakePayload) -> Self {
        self.media = Some(media);
        self.length = length;
        self.payload = payload;
        self.single = true;
        self
    }

    /// The server does it once, however often it hears it (`Idempotency-Key`).
    #[must_use]
    pub fn once(mut self) -> Self {
        self.idempotency = Some(random_text());
        self
    }

    /// Asks for another media type.
    #[must_use]
    pub fn accept(mut self, media: &'static str) -> Self {
        self.accept = media;
        self
    }

    /// Waits so long for the head of the answer.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Goes on behind an event (`Last-Event-ID`).
    #[must_use]
    pub fn after_event(mut self, id: Option<&str>) -> Self {
        self.last_event = id.map(str::to_owned);
        self
    }

    /// Sends no credentials.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// To a session's preview: shows this token in the header that previews take it in, and that applications never see.
    #[must_use]
    pub fn visitor(mut self, token: Secret<String>) -> Self {
        self.anonymous = true;
        self.visitor = Some(token);
        self
    }

    /// Whether sending it twice does no more than sending it once.
    pub(super) fn is_repeatable(&self) -> bool {
        !self.single && (self.idempotency.is_some() || self.method.is_idempotent())
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

/// 128 random bits as text. Names requests; secrets are made elsewhere.
fn random_text() -> String {
    use std::hash::{BuildHasher, Hasher};
    let draw = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |span| span.as_nanos());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&draw().to_le_bytes()).update(&draw().to_le_bytes());
    hasher.update(&now.to_le_bytes()).update(&std::process::id().to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_parameters_cannot_become_something_else() {
        let call = Call::get(&["sessions", "../admin?x#y"]).query("cursor", "a&b=c").query("limit", "5");
        assert_eq!(call.path, "/api/v1/sessions/..%2Fadmin%3Fx%23y?cursor=a%26b%3Dc&limit=5");
    }

    #[test]
    fn only_what_may_be_repeated_is_repeatable() {
        assert!(Call::get(&["me"]).is_repeatable());
        assert!(!Call::post(&["sessions"]).is_repeatable());
        assert!(Call::post(&["sessions"]).once().is_repeatable());
        assert_ne!(random_text(), random_text());
    }
}
