use std::future::Future;

use worker::send::SendFuture;

/// Lets a future that waits for JavaScript stand where a `Send` one is asked for. A Worker has one thread.
pub fn js<F: Future>(future: F) -> SendFuture<F> {
    SendFuture::new(future)
}
