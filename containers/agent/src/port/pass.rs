//! Bodies on their way through: nothing is kept back, and the sender goes as fast as the receiver takes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::activity::{Activity, Reason};

/// The connection to an application; it ends with its last user.
pub(crate) struct Carrier {
    connection: JoinHandle<()>,
    _place: OwnedSemaphorePermit,
}

impl Carrier {
    /// Keeps the place for as long as the connection is of use.
    pub(super) fn new(connection: JoinHandle<()>, place: OwnedSemaphorePermit) -> Self {
        Self { connection, _place: place }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The body of an application's answer. While one that has a length flows, a request is being served; one without may be
/// events for a tab that nobody looks at.
pub(crate) struct Passed {
    body: Incoming,
    serving: Option<Arc<Activity>>,
    _carrier: Carrier,
}

impl Passed {
    pub(super) fn new(body: Incoming, activity: Arc<Activity>, carrier: Carrier) -> Self {
        let serving = body.size_hint().exact().map(|_| activity);
        Self { body, serving, _carrier: carrier }
    }

    /// See [`Body::poll_frame`]; trailers are left out.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            if let (Some(activity), Some(_)) = (&self.serving, &frame) {
                activity.note(Reason::Preview);
            }
            return match frame {
                Some(Ok(frame)) if !frame.is_data() => continue,
                other => Poll::Ready(other.map(|frame| frame.map_err(io::Error::other))),
            };
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// When a request last moved.
#[derive(Clone)]
pub(super) struct Progress {
    at: Arc<Mutex<Instant>>,
    activity: Arc<Activity>,
}

impl Progress {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        Self { at: Arc::new(Mutex::new(Instant::now())), activity }
    }

    fn note(&self) {
        self.activity.note(Reason::Preview);
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Resolves once nothing has moved for so long.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let until = *self.at.lock().unwrap_or_else(PoisonError::into_inner) + patience;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The body of a request, noting its progress.
pub(super) struct Tracked {
    pub(super) body: Incoming,
    pub(super) progress: Progress,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress.note();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
