//! What handlers are given: caller, path references, JSON bodies. Every failure is a problem document.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use burstflare_core::Caller;
use burstflare_ports::clock::Clock;
use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use futures_util::{StreamExt, pin_mut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// The most bytes of a JSON body.
pub(crate) const JSON_LIMIT: usize = 256 << 10;
/// How long a JSON body may take to arrive.
const JSON_DEADLINE: Duration = Duration::from_secs(30);

/// The caller, as the gate of the route found them.
pub(crate) struct Authenticated(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Answer<Self> {
        // A route that asks for a caller and is not declared to need one is a defect, never a way in.
        parts.extensions.remove::<Caller>().map(Self).ok_or_else(Refusal::defect)
    }
}

/// Parameters of the path.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(Self(params)),
            Err(_) => Err(Refusal::invalid("path", "the path is not well formed")),
        }
    }
}

/// A body of JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<EdgeState> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &EdgeState) -> Answer<Self> {
        let bytes = collect(request.into_body(), state.plane.ports().clock.as_ref()).await?;
        parse(&bytes).map(Self)
    }
}

/// A body of JSON that may be left out.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<EdgeState> for OptionalJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &EdgeState) -> Answer<Self> {
        let typed = request.headers().contains_key(CONTENT_TYPE);
        let bytes = collect(request.into_body(), state.plane.ports().clock.as_ref()).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        // The gate refused other types; a body without one is refused here, where it is known to be there.
        if !typed {
            return Err(unsupported_media_type("application/json"));
        }
        parse(&bytes).map(Self)
    }
}

/// The refusal of a body of another type than the route's.
pub(crate) fn unsupported_media_type(wanted: &str) -> Refusal {
    Refusal::http(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("This route takes {wanted}."),
        "Set the header Content-Type accordingly.",
    )
}

async fn collect(body: Body, clock: &dyn Clock) -> Answer<Bytes> {
    let read = async {
        let mut flow = body.into_data_stream();
        let mut all = BytesMut::new();
        while let Some(chunk) = flow.next().await {
            let chunk = chunk.map_err(|_| Refusal::invalid("body", "the body was cut off"))?;
            if all.len() + chunk.len() > JSON_LIMIT {
                return Err(Refusal::too_large(JSON_LIMIT as u64));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    };
    let late = clock.sleep(JSON_DEADLINE);
    pin_mut!(read);
    match select(read, late).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => Err(Refusal::http(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body did not arrive in time.",
            "Send the request again.",
        )),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    // serde would take an array for a struct, by position.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|first| *first != b'{') {
        return Err(Refusal::invalid("body", "the body is not a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let message = inner.to_string();
        // Where the text is well formed the field says more than the place in it does.
        let message = match message.rsplit_once(" at line ") {
            Some((rule, _)) if inner.is_data() => rule.to_owned(),
            _ => message,
        };
        Refusal::invalid(field(&path, &message), message)
    })?;
    reader.end().map_err(|error| Refusal::invalid("body", error.to_string()))?;
    Ok(value)
}

/// The field an error is about: the path, and for missing, unknown and doubled fields the name that the message quotes.
fn field(path: &str, message: &str) -> String {
    // Broken off within something that has no name yet.
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let path = if path.is_empty() { "." } else { path };
    let quoted = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.split_once('`'))
        .map(|(name, _)| name);
    let whole = match (path, quoted) {
        (".", Some(name)) => name.to_owned(),
        // Unknown fields are in the path already.
        (path, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (".", None) => "body".to_owned(),
        (path, None) => path.to_owned(),
    };
    whole.chars().take(100).collect()
}

/// An answer of JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(_) => Refusal::defect().into_response(),
    }
}

/// An answer of JSON, 200.
pub(crate) fn ok<T: Serialize>(value: &T) -> Answer<Response> {
    Ok(json(StatusCode::OK, value))
}

/// An answer of JSON about something new, 201.
pub(crate) fn created<T: Serialize>(value: &T) -> Answer<Response> {
    Ok(json(StatusCode::CREATED, value))
}

/// An answer without a body.
pub(crate) fn nothing() -> Answer<Response> {
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::CreateTemplate;

    fn refused(text: &str) -> String {
        let Err(refusal) = parse::<CreateTemplate>(text.as_bytes()) else { panic!("{text} was accepted") };
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        format!("{refusal:?}")
    }

    #[test]
    fn malformed_bodies_name_the_field() {
        for (text, field) in [
            ("", "body"),
            ("[", "body"),
            ("{}", "name"),
            ("{\"name\":1}", "name"),
            ("{\"name\":\"A B\"}", "name"),
            ("{\"name\":\"a\",\"colour\":1}", "colour"),
            ("{\"name\":\"a\"} x", "body"),
        ] {
            assert!(
                refused(text).contains(&format!("field: Some(\"{field}\")")),
                "{text}: {}",
                refused(text)
            );
        }
    }
}
