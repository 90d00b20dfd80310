use std::future::Future;

use wasm_bindgen::{JsCast as _, JsValue};
use worker::send::SendFuture;

/// Lets a future that waits for JavaScript stand where a `Send` one is asked for. A Worker has one thread.
pub fn js<F: Future>(future: F) -> SendFuture<F> {
    SendFuture::new(future)
}

/// What a thrown value says, without the stack.
pub(crate) fn message(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => thrown.as_string().unwrap_or_else(|| "an error without a text".to_owned()),
    }
}
