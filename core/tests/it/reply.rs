//! What an agent of the tests answers.

use burstflare_ports::error::PortResult;
use burstflare_ports::stream::Body;
use burstflare_ports::wire::Refusal;
use http::{Response, StatusCode};

pub(crate) fn refused(status: StatusCode, code: &str) -> PortResult<Response<Body>> {
    let refusal = Refusal { code: code.to_owned(), message: code.to_owned() };
    answer(status, Body::Full(serde_json::to_vec(&refusal).unwrap().into()))
}

pub(crate) fn answer(status: StatusCode, body: Body) -> PortResult<Response<Body>> {
    Ok(Response::builder().status(status).body(body).unwrap())
}

pub(crate) fn json<T: serde::Serialize>(message: &T) -> PortResult<Response<Body>> {
    answer(StatusCode::OK, Body::Full(serde_json::to_vec(message).unwrap().into()))
}
