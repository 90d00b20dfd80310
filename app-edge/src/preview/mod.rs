//! Previews: a session's ports on origins of their own.
//!
//! Applications are content of users, so they live on hosts apart, where no route of ours is but `/.flare/enter`. Who may
//! come is decided anew for each request, in core; what a browser's cookie is worth there depends on whose page asked.

mod cookie;
mod enter;
mod hold;
mod host;
mod inbound;
mod origin;
mod outbound;
mod page;
mod places;

use std::pin::pin;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{LOCATION, SEC_WEBSOCKET_KEY, UPGRADE};
use axum::http::{self, HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use burstflare_core::Error;
use burstflare_core::service::{Credential, End, Ground, PreviewPlace, Stay, Visit};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::Origin;
use burstflare_ports::secret::Secret;
use burstflare_ports::stream;
use burstflare_ports::wire::Refusal as AgentRefusal;
use burstflare_ports::wire::port::APP_ANSWER_HEADER;
use futures_util::future::{Either, select};

pub(crate) use self::enter::ENTER;
use self::hold::Held;
pub(crate) use self::host::PreviewHost;
pub use self::host::{InvalidPreviewDomain, PreviewDomain};
pub(crate) use self::outbound::FromApplication;
pub(crate) use self::page::entrance;
pub(crate) use self::places::Places;
use crate::config::ClientAddress;
use crate::gate;
use crate::problem::{Answer, Refusal};
use crate::state::EdgeState;

/// For the head of an answer: a little longer than the agent waits for the application, so that the agent says why.
const HEAD: Duration = Duration::from_secs(150);
/// The same where a body goes ahead of it; that it moves is the agent's to see.
const UPLOAD: Duration = Duration::from_secs(6 * 3600);
/// Strangers' requests of one address in a minute, as multiples of the deployment's public rate.
const STRANGERS: u32 = 10;
/// What the agent says of itself is short.
const REFUSAL: usize = 64 << 10;

/// Scripts say here who asks; browsers' pages cannot forge it and need no cookie then.
const FLARE_AUTHORIZATION: &str = "flare-authorization";

/// Answers a request to a preview's host.
pub(crate) async fn answer(state: &EdgeState, host: &PreviewHost, request: Request) -> Response {
    let navigation = origin::is_navigation(request.method(), request.headers());
    match visit(state, host, request, navigation).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn visit(
    state: &EdgeState,
    host: &PreviewHost,
    request: Request,
    navigation: bool,
) -> Answer<Response> {
    let address = request.extensions().get::<ClientAddress>().copied();
    if request.uri().path().starts_with(enter::RESERVED) {
        gate::count_stranger(state, address, STRANGERS).await?;
        return enter::answer(state, host, request).await;
    }
    if origin::is_preflight(request.method(), request.headers()) {
        gate::count_stranger(state, address, STRANGERS).await?;
        return preflight(state, host, request).await;
    }
    let credential = credential(request.headers(), host.https)?;
    let who = request.extensions().get::<Origin>().cloned().unwrap_or_default();
    let visit = state.plane.visit(host.place, &credential, who).await?;
    let Visit::Welcome { ground, session, target, mut stay } = visit else {
        gate::count_stranger(state, address, STRANGERS).await?;
        return stranger(state, host.place, navigation);
    };
    if ground == Ground::Cookie
        && let Err(foreign) = origin::check(host, request.method(), request.headers())
    {
        // The cookie does not count then; what is public needs none.
        stay = match state.plane.visit(host.place, &Credential::None, Origin::default()).await? {
            Visit::Welcome { stay, .. } => stay,
            Visit::Stranger => return Err(foreign),
        };
    }
    match target {
        Some(target) => forward(state, host, &target, request, navigation, Some(stay)).await,
        None if navigation => Ok(page::asleep(&session)),
        None => Err(asleep(&session)),
    }
}

/// What a visitor has to show; the most explicit counts.
fn credential(headers: &HeaderMap, https: bool) -> Answer<Credential> {
    if let Some(value) = headers.get(FLARE_AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = token.ok_or_else(|| {
            Refusal::invalid("Flare-Authorization", "Flare-Authorization looks like `Bearer TOKEN`")
        })?;
        return Ok(Credential::Bearer(Secret::new(token.1.trim().to_owned())));
    }
    let values = cookie::values(headers, https);
    Ok(if values.is_empty() { Credential::None } else { Credential::Cookies(values) })
}

/// The same answer whether there is such a preview or not.
fn stranger(state: &EdgeState, place: PreviewPlace, navigation: bool) -> Answer<Response> {
    if !navigation {
        return Err(private());
    }
    let url = format!("{}/previews/{}/{}", state.config.browser_url(), place.session, place.port);
    let location = HeaderValue::try_from(url).map_err(|_| Refusal::defect())?;
    Ok((StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response())
}

fn private() -> Refusal {
    Refusal::http(
        StatusCode::UNAUTHORIZED,
        "preview_private",
        "This preview is private, or there is none.",
        "Open it with `flare open`; scripts send `Flare-Authorization: Bearer TOKEN`.",
    )
}

fn asleep(session: &burstflare_ports::record::Session) -> Refusal {
    Error::new(
        burstflare_core::Kind::Unavailable,
        "session_asleep",
        format!("The session is {:?}; a preview does not wake it.", session.state).to_lowercase(),
        "Start it: `flare session start`.",
    )
    .after(Duration::from_secs(5))
    .into()
}

/// A browser asks, for no user in particular, whether a page may ask; the application says.
async fn preflight(state: &EdgeState, host: &PreviewHost, mut request: Request) -> Answer<Response> {
    let Some(target) = state.plane.preview_target(host.place).await? else {
        return stranger(state, host.place, false);
    };
    inbound::without_credentials(request.headers_mut());
    *request.body_mut() = axum::body::Body::empty();
    for name in [http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING] {
        request.headers_mut().remove(name);
    }
    // Nobody's right is behind it.
    forward(state, host, &target, request, false, None).await
}

async fn forward(
    state: &EdgeState,
    host: &PreviewHost,
    target: &AgentTarget,
    request: Request,
    navigation: bool,
    stay: Option<Stay>,
) -> Answer<Response> {
    let place = state.preview_places.take(host.place.session)?;
    if is_websocket(&request) {
        return socket(state, host, target, request, (stay, place)).await;
    }
    let broken = inbound::Broken::default();
    let call = inbound::call(host, request, false, &broken)?;
    let deadline = match call.body() {
        stream::Body::Full(_) => HEAD,
        stream::Body::Stream(_) => UPLOAD,
    };
    let sent = {
        let sending = state.plane.ports().agents.send(target, call, deadline);
        let over = async {
            match &stay {
                Some(stay) => state.plane.stay_over(stay).await,
                None => std::future::pending().await,
            }
        };
        match select(pin!(sending), pin!(over)).await {
            Either::Left((sent, _)) => sent,
            Either::Right((End::MachineEnded, _)) => return silent(navigation, unreachable()),
            Either::Right(_) => return Err(private()),
        }
    };
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, session = %host.place.session, "a preview's agent does not answer");
            return broken.refusal().map_or_else(|| silent(navigation, unreachable()), Err);
        }
    };
    if !answer.headers().contains_key(APP_ANSWER_HEADER) {
        return silent(navigation, refusal(answer).await);
    }
    let plane = state.plane.clone();
    Ok(outbound::answer(answer, |flow| Box::pin(Held::new(flow, plane, stay, place))))
}

fn is_websocket(request: &Request) -> bool {
    let upgrade = request.headers().get(UPGRADE);
    request.method() == Method::GET
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && (!cfg!(feature = "native") || request.headers().contains_key(SEC_WEBSOCKET_KEY))
}

async fn socket(
    state: &EdgeState,
    host: &PreviewHost,
    target: &AgentTarget,
    mut request: Request,
    (stay, place): (Option<Stay>, places::Place),
) -> Answer<Response> {
    use crate::tunnel::{Door, HANDSHAKE, switched};
    let door = Door::with(&mut request, place)?;
    let call = inbound::call(host, request, true, &inbound::Broken::default())?;
    // Where its end were not seen by all in the same place, what follows would be somebody's bytes in another's stream.
    if matches!(call.body(), stream::Body::Stream(_)) {
        return Err(Refusal::http(
            StatusCode::BAD_REQUEST,
            "framing",
            "The handshake of a WebSocket has no body.",
            "Send it without Content-Length and Transfer-Encoding.",
        ));
    }
    let answer = door.carry(&state.plane, target, call, HANDSHAKE, stay).await?;
    if !answer.headers().contains_key(APP_ANSWER_HEADER) {
        return silent(false, refusal(answer).await);
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let mut response = switched(answer);
        response.extensions_mut().insert(FromApplication);
        return Ok(response);
    }
    refused_upgrade(state, answer).await
}

/// An application's answer that it does not speak WebSocket: as much of it as says why, for no longer than a handshake.
async fn refused_upgrade(state: &EdgeState, answer: http::Response<stream::Body>) -> Answer<Response> {
    let (head, body) = answer.into_parts();
    let collected = body.collect(REFUSAL, "preview");
    let pause = state.plane.ports().clock.sleep(crate::tunnel::HANDSHAKE);
    futures_util::pin_mut!(collected, pause);
    let Either::Left((Ok(bytes), _)) = select(collected, pause).await else {
        return Err(Refusal::http(
            StatusCode::BAD_GATEWAY,
            "port_broken",
            "The application answered a WebSocket's handshake with something else, and at length.",
            "Look at the application's output in the session.",
        ));
    };
    Ok(outbound::answer(http::Response::from_parts(head, stream::Body::Full(bytes)), |flow| flow))
}

/// The application does not answer: a page for people, a document for programs.
fn silent(navigation: bool, refusal: Refusal) -> Answer<Response> {
    if navigation && refusal.status().is_server_error() {
        return Ok(page::silent(&refusal));
    }
    Err(refusal)
}

fn unreachable() -> Refusal {
    Refusal::http(
        StatusCode::SERVICE_UNAVAILABLE,
        "machine_unreachable",
        "The session's machine does not answer.",
        "Try again in a moment; `flare session show` tells how it is.",
    )
}

/// What the agent says about a port.
pub(crate) async fn refusal(answer: http::Response<stream::Body>) -> Refusal {
    let status = answer.status();
    let (head, body) = answer.into_parts();
    let bytes = body.collect(REFUSAL, "preview").await.unwrap_or_default();
    let said = serde_json::from_slice::<AgentRefusal>(&bytes).ok();
    let code = said.as_ref().map_or("", |said| said.code.as_str());
    let known = [
        (
            "port_closed",
            StatusCode::BAD_GATEWAY,
            "Start the application in the session; it has to listen on that port.",
        ),
        (
            "port_broken",
            StatusCode::BAD_GATEWAY,
            "Previews carry HTTP/1.1; for other protocols use `flare port-forward`.",
        ),
        ("port_timeout", StatusCode::GATEWAY_TIMEOUT, "Look at the application's output in the session."),
        ("busy", StatusCode::SERVICE_UNAVAILABLE, "Close some tabs, or try again in a moment."),
    ];
    if let (Some((code, status, hint)), Some(said)) = (known.iter().find(|known| known.0 == code), &said) {
        return Refusal::http(*status, code, said.message.clone(), hint);
    }
    tracing::debug!(%status, code, "an agent refused a preview");
    let answer = http::Response::from_parts(head, stream::Body::Full(bytes));
    burstflare_core::service::agent_refusal(answer).await.into()
}
