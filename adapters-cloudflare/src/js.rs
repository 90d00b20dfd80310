use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError};
use futures_util::future::{Either, select};
use js_sys::{Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use worker::send::SendFuture;
use worker::{Delay, Env, Error};

/// Lets a future that waits for JavaScript stand where a `Send` one is asked for. A Worker has one thread.
pub fn js<F: Future>(future: F) -> SendFuture<F> {
    SendFuture::new(future)
}

/// Waits for it until the deadline; `None` when that passed. The future is dropped then, which stops no request: what has
/// to end is aborted by whoever asks.
#[expect(clippy::future_not_send, reason = "its callers wrap it")]
pub(crate) async fn within<F: Future>(deadline: Duration, future: F) -> Option<F::Output> {
    match select(pin!(future), Delay::from(deadline)).await {
        Either::Left((answer, _)) => Some(answer),
        Either::Right(_) => None,
    }
}

/// A binding that the crate `worker` has no type for.
///
/// # Errors
/// Where the deployment has none of that name.
pub(crate) fn binding<T: JsCast>(env: &Env, name: &str) -> worker::Result<T> {
    let found = Reflect::get(env.as_ref(), &JsValue::from_str(name))?;
    if found.is_object() || found.is_function() {
        Ok(found.unchecked_into())
    } else {
        Err(Error::RustError(format!("the binding {name} is missing")))
    }
}

/// An object of these properties.
pub(crate) fn object<'a>(properties: impl IntoIterator<Item = (&'a str, JsValue)>) -> Object {
    let object = Object::new();
    for (name, value) in properties {
        // A plain object takes every property.
        let _ = Reflect::set(&object, &JsValue::from_str(name), &value);
    }
    object
}

/// The plain message of what JavaScript threw.
pub(crate) fn message(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => error.as_string().unwrap_or_else(|| "an error without a text".to_owned()),
    }
}

/// What a service of the platform threw. Its own defects and a broken connection pass; what else it says is about the call.
pub(crate) fn failed(operation: &'static str, error: &JsValue) -> PortError {
    const PASSING: [&str; 5] =
        ["Network connection lost", "internal error", "overloaded", "Too Many Requests", "reset because"];
    let message = message(error);
    let passing = PASSING.iter().any(|part| message.contains(part));
    PortError::new(if passing { ErrorKind::Unavailable } else { ErrorKind::Internal }, operation, message)
}
