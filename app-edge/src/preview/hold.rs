//! What is open for a visitor, for as long as they may look and have a place.

use std::pin::Pin;
use std::task::{Context, Poll};

use burstflare_core::ControlPlane;
use burstflare_core::service::Stay;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::ByteStream;
use bytes::Bytes;
use futures_util::Stream;

use super::places::Place;

/// The body of an application's answer. It breaks off when the visitor's right to look ends: a body that only ended would
/// look whole.
pub(super) struct Held {
    flow: Option<ByteStream>,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

impl Held {
    /// A body with what it needs to go on; dropping it gives both back.
    pub(super) fn new(flow: ByteStream, plane: ControlPlane, stay: Option<Stay>, place: Place) -> Self {
        let over = async move {
            match stay {
                Some(stay) => {
                    let end = plane.stay_over(&stay).await;
                    tracing::debug!(end = end.name(), "an answer of a preview was cut off");
                }
                None => std::future::pending().await,
            }
        };
        Self { flow: Some(flow), over: Box::pin(over), _place: place }
    }
}

impl Stream for Held {
    type Item = PortResult<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PortResult<Bytes>>> {
        let this = &mut *self;
        let Some(flow) = &mut this.flow else { return Poll::Ready(None) };
        if this.over.as_mut().poll(cx).is_ready() {
            this.flow = None;
            let cut = PortError::new(ErrorKind::Denied, "preview.answer", "the right to look at it ended");
            return Poll::Ready(Some(Err(cut)));
        }
        flow.as_mut().poll_next(cx)
    }
}
