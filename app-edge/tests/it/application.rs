//! The application behind previews: it tells what reached it, and answers with the headers it is asked for. `/stream` is
//! an answer that goes on for ever, `/silent` one that never begins, and `/late` one for which the agent lost patience.

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Response};
use burstflare_ports::error::PortResult;
use burstflare_ports::stream::Body;
use burstflare_ports::wire::Refusal;
use burstflare_ports::wire::port::{APP_ANSWER_HEADER, OpenPort, OpenPorts};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;

/// Names the headers of the answer: `name: value`, one for each.
pub(crate) const ANSWER: &str = "x-answer";

/// What listens in every scripted machine.
pub(crate) fn ports() -> OpenPorts {
    OpenPorts { ports: vec![OpenPort { port: 3000, process: Some("node".to_owned()) }] }
}

/// Answers a call below `/v1/ports/{port}/http`.
pub(crate) async fn answer(head: Parts, body: Body) -> PortResult<Response<Body>> {
    match head.uri.path() {
        path if path.ends_with("/stream") => return Ok(stream()),
        path if path.ends_with("/late") => return Ok(late()),
        path if path.ends_with("/silent") => return std::future::pending().await,
        _ => {}
    }
    let body = body.collect(1 << 20, "application").await?;
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let seen = json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    let mut response = Response::new(Body::Full(seen.to_string().into()));
    response.headers_mut().insert(APP_ANSWER_HEADER, HeaderValue::from_static("1"));
    for line in head.headers.get_all(ANSWER) {
        let (name, value) = line.to_str().expect("text").split_once(": ").expect("a header");
        let name: HeaderName = name.parse().expect("a name");
        response.headers_mut().append(name, value.parse().expect("a value"));
    }
    Ok(response)
}

fn stream() -> Response<Body> {
    let first = futures_util::stream::once(async { Ok(Bytes::from_static(b"data: one\n\n")) });
    let mut response = Response::new(Body::Stream(first.chain(futures_util::stream::pending()).boxed()));
    response.headers_mut().insert(APP_ANSWER_HEADER, HeaderValue::from_static("1"));
    response
}

fn late() -> Response<Body> {
    let message = "Port 3000 did not answer within 120 seconds.".to_owned();
    let refusal = Refusal { code: "port_timeout".to_owned(), message };
    let mut response = Response::new(Body::Full(serde_json::to_vec(&refusal).expect("a message").into()));
    *response.status_mut() = axum::http::StatusCode::GATEWAY_TIMEOUT;
    response
}
