//! What stands before every handler: rate, token, permission, media type and size, in this order and before a byte of the
//! body is read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::response::{IntoResponse, Response};
use burstflare_core::Caller;
use burstflare_core::domain::permission::Relation;
use burstflare_core::service::FILE_LIMIT;
use burstflare_ports::limit::Verdict;
use burstflare_ports::record::Origin;

use crate::config::{ClientAddress, LoopbackRate};
use crate::extract::{JSON_LIMIT, unsupported_media_type};
use crate::metrics::Series;
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;
use crate::table::{Accepts, Access, Endpoint};

/// The window of the public rate.
const MINUTE: Duration = Duration::from_secs(60);

/// Names that archives are sent under.
const ARCHIVES: [&str; 7] = [
    "application/zstd",
    "application/x-zstd",
    "application/gzip",
    "application/x-gzip",
    "application/x-tar",
    "application/x-gtar",
    "application/octet-stream",
];

/// Lets a request through to its handler, or answers why not.
pub(crate) async fn pass<H, T>(
    state: EdgeState,
    endpoint: Arc<Endpoint>,
    mut request: Request,
    handler: H,
) -> Response
where
    H: Handler<T, EdgeState> + Sync,
    T: 'static,
{
    let mut response = match admit(&state, &endpoint, &mut request).await {
        Ok(()) => handler.call(request, state).await,
        Err(refusal) => refusal.into_response(),
    };
    response.extensions_mut().insert(Series(endpoint.index));
    response
}

async fn admit(state: &EdgeState, endpoint: &Endpoint, request: &mut Request) -> Answer<()> {
    match endpoint.access {
        Access::Public => {}
        Access::Counted(times) => {
            let address = request.extensions().get::<ClientAddress>().map(|address| address.0);
            count(state, endpoint, address, times).await?;
        }
        Access::Bearer(action) => {
            let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
            let bearer = bearer(request.headers());
            let caller = state.plane.authenticate(bearer, origin).await?;
            // The use case asks again, about the very thing; this is the part that needs no body.
            caller.may(action, Relation::Own)?;
            check_size(endpoint.accepts, request.headers(), Some(&caller))?;
            request.extensions_mut().insert(caller);
        }
    }
    check_type(endpoint.accepts, request.headers())?;
    check_size(endpoint.accepts, request.headers(), None)
}

/// The bearer token; empty where there is none.
pub(crate) fn bearer(headers: &HeaderMap) -> &str {
    let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

async fn count(state: &EdgeState, endpoint: &Endpoint, address: Option<IpAddr>, times: u32) -> Answer<()> {
    take(state, &endpoint.index.to_string(), address, times).await
}

/// Counts a request to a preview whose sender is unknown.
pub(crate) async fn count_stranger(
    state: &EdgeState,
    address: Option<ClientAddress>,
    times: u32,
) -> Answer<()> {
    take(state, "preview", address.map(|address| address.0), times).await
}

async fn take(state: &EdgeState, what: &str, address: Option<IpAddr>, times: u32) -> Answer<()> {
    let free = state.config.loopback_rate == LoopbackRate::Free
        && address.is_some_and(|address| address.is_loopback());
    if free {
        return Ok(());
    }
    let bucket = format!("public:{what}:{}", network(address));
    let limit = state.config.public_rate.saturating_mul(times);
    match state.plane.ports().limiter.take(&bucket, limit, MINUTE).await {
        Ok(Verdict::Allowed) => Ok(()),
        Ok(Verdict::Wait(wait)) => Err(Refusal::too_many(wait)),
        Err(error) => Err(burstflare_core::Error::from(error).into()),
    }
}

/// Whom an address stands for: one IPv6 subscriber has 2^64 of them.
fn network(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        None => "unknown".to_owned(),
    }
}

fn check_type(accepts: Accepts, headers: &HeaderMap) -> Answer<()> {
    let given = headers.get(CONTENT_TYPE).map(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    });
    let (fits, wanted): (fn(&str) -> bool, _) = match accepts {
        Accepts::Nothing => return Ok(()),
        Accepts::Json | Accepts::OptionalJson => (|given| given == "application/json", "application/json"),
        Accepts::Bytes => (|given| given == "application/octet-stream", "application/octet-stream"),
        Accepts::Archive => (|given| ARCHIVES.contains(&given), "application/zstd or application/gzip"),
    };
    match given {
        Some(given) if fits(&given) => Ok(()),
        // Whether there is a body is known when it is read.
        None if accepts == Accepts::OptionalJson => Ok(()),
        _ => Err(unsupported_media_type(wanted)),
    }
}

/// Refuses by the announced length, so that a client that waits for `100 Continue` sends nothing in vain. What is
/// not announced is counted while it is read.
fn check_size(accepts: Accepts, headers: &HeaderMap, caller: Option<&Caller>) -> Answer<()> {
    let limit = match (accepts, caller) {
        (Accepts::Nothing, _) => return Ok(()),
        (Accepts::Json | Accepts::OptionalJson, _) => JSON_LIMIT as u64,
        (Accepts::Bytes, _) => FILE_LIMIT,
        (Accepts::Archive, Some(caller)) => caller.plan().bundle,
        (Accepts::Archive, None) => return Ok(()),
    };
    if headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) { Err(Refusal::too_large(limit)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_is_one_network() {
        let one = "2001:db8::1".parse().ok();
        let two = "2001:db8::ffff:2".parse().ok();
        assert_eq!(network(one), network(two));
        assert_ne!(network(one), network("2001:db8:0:1::1".parse().ok()));
        assert_eq!(network("192.0.2.1".parse().ok()), "192.0.2.1");
    }
}
