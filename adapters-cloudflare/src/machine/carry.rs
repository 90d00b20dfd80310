//! Requests and answers between the ports' vocabulary and JavaScript's.

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::stream::Body;
use burstflare_ports::wire::EPOCH_HEADER;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Method};
use js_sys::Uint8Array;
use wasm_bindgen::JsValue;
use worker::send::SendWrapper;
use worker::worker_sys::FixedLengthStream as RawFixed;
use worker::{AbortController, FixedLengthStream, web_sys};

use crate::js::message;

const SEND: &str = "agent.send";

/// A handshake is the platform's own: it makes and answers these itself.
fn is_handshake(name: &HeaderName) -> bool {
    *name == CONNECTION
        || matches!(name.as_str(), "sec-websocket-key" | "sec-websocket-version" | "sec-websocket-extensions")
}

/// A call to an agent as a request of JavaScript's, for this prefix of its path. Its host is the one that the call
/// names: no other way sets it.
pub(super) fn agent_request(
    target: &AgentTarget,
    prefix: &str,
    call: http::Request<Body>,
) -> PortResult<(web_sys::Request, AbortController)> {
    let (head, body) = call.into_parts();
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("agent");
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("http://{host}{prefix}{path}");
    let headers = js_headers(&head.headers)?;
    let put = |name: &str, value: &str| headers.set(name, value).map_err(|error| invalid(&error));
    put(AUTHORIZATION.as_str(), &format!("Bearer {}", target.key.expose()))?;
    put(EPOCH_HEADER, &target.epoch.to_string())?;
    put(super::message::MACHINE, &super::message::name(target.machine))?;
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    request(&url, &head.method, &headers, js_body(body, length))
}

/// A request of JavaScript's, and the means to give it up.
pub(super) fn request(
    url: &str,
    method: &Method,
    headers: &web_sys::Headers,
    body: Option<JsValue>,
) -> PortResult<(web_sys::Request, AbortController)> {
    let abort = AbortController::default();
    let init = web_sys::RequestInit::new();
    init.set_method(method.as_str());
    init.set_headers(headers);
    init.set_redirect(web_sys::RequestRedirect::Manual);
    init.set_signal(Some(&*abort.signal()));
    if let Some(body) = body {
        init.set_body(&body);
    }
    let request = web_sys::Request::new_with_str_and_init(url, &init).map_err(|error| invalid(&error))?;
    Ok((request, abort))
}

fn js_headers(from: &HeaderMap) -> PortResult<web_sys::Headers> {
    let headers = web_sys::Headers::new().map_err(|error| invalid(&error))?;
    let upgrade = from.contains_key(UPGRADE);
    for (name, value) in from {
        if *name == HOST || *name == CONTENT_LENGTH || (upgrade && is_handshake(name)) {
            continue;
        }
        // A header of bytes that are no text is one that JavaScript cannot carry.
        let Ok(value) = value.to_str() else { continue };
        headers.append(name.as_str(), value).map_err(|error| invalid(&error))?;
    }
    Ok(headers)
}

/// A body; of known length where that is known, else in chunks.
fn js_body(body: Body, length: Option<u64>) -> Option<JsValue> {
    match body {
        Body::Full(bytes) if bytes.is_empty() => None,
        Body::Full(bytes) => Some(Uint8Array::from(bytes.as_ref()).into()),
        Body::Stream(flow) => {
            let flow = flow.map(|chunk| match chunk {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(error) => Err(worker::Error::RustError(error.to_string())),
            });
            Some(match length {
                Some(length) => {
                    let raw: RawFixed = FixedLengthStream::wrap(flow, length).into();
                    raw.readable().into()
                }
                None => worker::Body::from_stream(flow).ok()?.into_inner()?.into(),
            })
        }
    }
}

/// An answer of JavaScript's; one that switched protocols carries its socket in the extensions, as a [`worker::WebSocket`].
pub(super) fn answer(response: web_sys::Response) -> PortResult<http::Response<Body>> {
    let bodiless = response.body().is_none() || response.status() == 101;
    let broken = |error: worker::Error| PortError::new(ErrorKind::Corrupt, SEND, error.to_string());
    let response =
        http::Response::<worker::Body>::try_from(worker::Response::from(response)).map_err(broken)?;
    let (mut head, body) = response.into_parts();
    // The length of what was packed, where the platform has unpacked it.
    if head.headers.contains_key(http::header::CONTENT_ENCODING) {
        head.headers.remove(CONTENT_LENGTH);
    }
    let flow = SendWrapper::new(body);
    let flow = futures_util::stream::unfold(flow, |mut flow| async move {
        let chunk = crate::js::js(flow.0.next()).await?;
        Some((chunk, flow))
    })
    .map_err(|error: worker::Error| {
        PortError::new(ErrorKind::Unavailable, SEND, format!("the answer broke off: {error}"))
    });
    let body = if bodiless { Body::empty() } else { Body::Stream(Box::pin(flow)) };
    Ok(http::Response::from_parts(head, body))
}

fn invalid(error: &JsValue) -> PortError {
    PortError::new(ErrorKind::Invalid, SEND, message(error))
}
