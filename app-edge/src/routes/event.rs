use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use burstflare_core::domain::permission::Action;
use burstflare_core::{Caller, ControlPlane};
use burstflare_ports::feed::Hints;
use burstflare_ports::secret::Secret;
use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt, stream};

use crate::extract::Authenticated;
use crate::gate::bearer;
use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::resource::Event;
use crate::table::{Accepts, Access, Table};

/// A sign of life at least so often; also how long a lost hint can cost.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn table(table: Table) -> Table {
    table.add(__path_events, Access::Bearer(Action::Read), Accepts::Nothing, events)
}

/// What changes in the workspace, as server-sent events (`event: KIND`, `id: SEQ`, `data: Event`). Begins behind
/// `Last-Event-ID` or `after`, else now.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "Sequence number to begin behind"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same; browsers send it when they reconnect")
    ),
    responses((status = 200, body = Event, content_type = "text/event-stream")))]
async fn events(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Response> {
    let asked = query.number("after")?;
    query.finish()?;
    // What a browser says when it reconnects is newer than the address it was given once.
    let last = headers.get("last-event-id").map(|value| {
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| Refusal::invalid("Last-Event-ID", "Last-Event-ID is not a sequence number"))
    });
    // Listening begins before the first read, so nothing falls in between.
    let hints = plane.subscribe(&caller).await?;
    let after = match last.transpose()?.or(asked) {
        Some(after) => after,
        None => plane.last_event(&caller).await?,
    };
    let token = Secret::new(bearer(&headers).to_owned());
    let listener = Listener { plane, caller, token, hints, after, greeted: false };
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // Proxies that buffer would keep events back.
        (axum::http::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(listener.run())).into_response())
}

struct Listener {
    plane: ControlPlane,
    caller: Caller,
    token: Secret<String>,
    hints: Hints,
    after: u64,
    greeted: bool,
}

impl Listener {
    /// The stream of the answer; it ends when the token is not good any more or the store fails: clients reconnect.
    fn run(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        stream::unfold(self, |mut listener| async move {
            let chunk = listener.next().await?;
            Some((Ok(chunk), listener))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            // A number without data is no event, but where a reconnecting client goes on.
            return Some(Bytes::from(format!("retry: 2000\nid: {}\n\n", self.after)));
        }
        let text = self.read().await?;
        if !text.is_empty() {
            return Some(text.into());
        }
        let pause = self.plane.ports().clock.sleep(HEARTBEAT);
        match select(self.hints.next(), pause).await {
            Either::Left((Some(()), _)) => {}
            Either::Left((None, _)) => return None,
            Either::Right(_) => return Some(Bytes::from_static(b": still here\n\n")),
        }
        // An empty chunk would end a chunked body, so a hint without events stays quiet.
        let text = self.read().await?;
        Some(if text.is_empty() { Bytes::from_static(b":\n\n") } else { text.into() })
    }

    async fn read(&mut self) -> Option<String> {
        // Revoking a token ends what it listens to.
        let origin = self.caller.origin.clone();
        self.caller = self.plane.authenticate(self.token.expose(), origin).await.ok()?;
        let page = self.plane.events(&self.caller, self.after).await.ok()?;
        let mut text = String::new();
        for stored in page.items {
            self.after = stored.seq;
            let event = Event::from(stored);
            let data = serde_json::to_string(&event).ok()?;
            text.push_str(&format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.kind));
        }
        Some(text)
    }
}
