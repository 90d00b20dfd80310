//! Bodies between HTTP and ports.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use burstflare_ports::clock::Clock;
use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::stream;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, TryStreamExt};

/// How long a client may pause within a body.
const PAUSE: Duration = Duration::from_secs(60);

/// A request's body as ports know it. A client that pauses too long ends it.
pub(crate) fn inbound(body: Body, clock: Arc<dyn Clock>) -> stream::Body {
    let flow =
        futures_util::stream::unfold((body.into_data_stream(), clock), |(mut flow, clock)| async move {
            let chunk = match select(flow.next(), clock.sleep(PAUSE)).await {
                Either::Left((chunk, _)) => {
                    let cut = |error| {
                        PortError::new(ErrorKind::Invalid, "request.body", "the body was cut off")
                            .with_source(error)
                    };
                    chunk?.map_err(cut)
                }
                Either::Right(_) => {
                    Err(PortError::new(ErrorKind::Timeout, "request.body", "the client paused too long"))
                }
            };
            Some((chunk, (flow, clock)))
        });
    stream::Body::Stream(Box::pin(flow))
}

/// A port's body as an answer's.
pub(crate) fn outbound(body: stream::Body) -> Body {
    match body {
        stream::Body::Full(bytes) => Body::from(bytes),
        stream::Body::Stream(flow) => {
            Body::from_stream(flow.inspect_err(|error| tracing::warn!(?error, "an answer broke off")))
        }
    }
}
