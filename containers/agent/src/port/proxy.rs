//! `/v1/ports/{port}/http/…`: one request to an application of the user, and its answer, both as they flow.

use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::EPOCH_HEADER;
use burstflare_ports::wire::port::{APP_ANSWER_HEADER, APP_AUTHORIZATION_HEADER, APP_HOST_HEADER};
use http::header::{AUTHORIZATION, CONNECTION, EXPECT, HOST, SEC_WEBSOCKET_KEY, UPGRADE};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::frames::Watched;
use super::pass::{Carrier, Passed, Progress, Tracked};
use super::{connect, headers, late};
use crate::activity::{Activity, Reason};
use crate::agent::Agent;
use crate::reply::{Refused, Reply, ReplyBody, done};

/// For the head of the answer, from the moment the request last moved: some compile before they answer.
const HEAD: Duration = Duration::from_secs(120);
/// The most headers of an answer.
const HEADERS: usize = 128;
/// The largest head of an answer, and what is read at once.
const BUFFER: usize = 128 << 10;
/// Bytes on their way in each direction of an upgraded connection.
const UPGRADED: usize = 32 << 10;

/// Passes a request on. Dropping the call, or its answer's body, ends the connection to the application.
pub(super) async fn pass(
    agent: &Arc<Agent>,
    port: u16,
    mut request: Request<Incoming>,
) -> Result<Reply, Refused> {
    let place = agent.port_places.take()?;
    let target = target(request.uri(), port)?;
    let wants_upgrade = is_websocket(request.headers());
    let caller = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let stream = connect(agent, port).await?;
    agent.activity.note(Reason::Preview);

    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        .handshake::<_, Tracked>(TokioIo::new(stream))
        .await
        .map_err(|problem| broken(port, &problem))?;
    let connection = tokio::spawn(async move {
        if let Err(problem) = connection.with_upgrades().await {
            tracing::debug!(%problem, "a connection to a port broke");
        }
    });
    let carrier = Carrier::new(connection, place);
    let (mut head, body) = request.into_parts();
    head.uri = target;
    for_application(&mut head.headers, wants_upgrade)?;
    let progress = Progress::new(Arc::clone(&agent.activity));
    let body = Tracked { body, progress: progress.clone() };
    let answer = tokio::select! {
        answer = sender.send_request(Request::from_parts(head, body)) => answer.map_err(|problem| broken(port, &problem))?,
        () = progress.stalled(HEAD) => {
            return Err(late(format!("Port {port} did not answer within {} seconds.", HEAD.as_secs())));
        }
    };
    match (answer.status(), caller) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(caller)) => {
            Ok(upgraded(answer, caller, Arc::clone(&agent.activity), carrier))
        }
        (StatusCode::SWITCHING_PROTOCOLS, None) => Err(Refused {
            status: StatusCode::BAD_GATEWAY,
            code: "port_broken",
            message: format!("Port {port} changed the protocol without being asked."),
        }),
        _ => Ok(plain(answer, Arc::clone(&agent.activity), carrier)),
    }
}

/// What stands behind `…/http`, byte by byte.
fn target(uri: &Uri, port: u16) -> Result<Uri, Refused> {
    let whole = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let rest = whole.strip_prefix(&format!("/v1/ports/{port}/http"));
    let target = rest.and_then(|rest| rest.parse::<PathAndQuery>().ok());
    target.map(Uri::from).ok_or_else(|| Refused::invalid("The application's path is not well formed."))
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let websocket =
        headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket && headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// Takes off what is ours and this connection's; gives back what is the application's.
fn for_application(headers: &mut HeaderMap, wants_upgrade: bool) -> Result<(), Refused> {
    headers::strip(headers);
    for name in [AUTHORIZATION, EXPECT, HeaderName::from_static(EPOCH_HEADER)] {
        headers.remove(name);
    }
    if let Some(own) = headers.remove(APP_AUTHORIZATION_HEADER) {
        headers.insert(AUTHORIZATION, own);
    }
    let host = headers.remove(APP_HOST_HEADER);
    let host = host.ok_or_else(|| Refused::invalid(format!("`{APP_HOST_HEADER}` is missing.")))?;
    headers.insert(HOST, host);
    if wants_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(())
}

fn plain(answer: Response<Incoming>, activity: Arc<Activity>, carrier: Carrier) -> Reply {
    let (mut head, body) = answer.into_parts();
    headers::strip(&mut head.headers);
    mark(&mut head.headers);
    let mut reply = Response::new(ReplyBody::Passed(Box::new(Passed::new(body, activity, carrier))));
    *reply.status_mut() = head.status;
    *reply.headers_mut() = head.headers;
    reply
}

/// Both connections become one stream of bytes. What the visitor sends is activity; what the application pushes is not, as
/// nobody may look at it.
fn upgraded(
    mut answer: Response<Incoming>,
    caller: OnUpgrade,
    activity: Arc<Activity>,
    carrier: Carrier,
) -> Reply {
    let application = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let (Ok(caller), Ok(application)) = (caller.await, application.await) else { return };
        if let Ok(parts) = application.downcast::<TokioIo<TcpStream>>() {
            let (mut inner, mut outer) =
                (parts.io.into_inner(), Watched::new(TokioIo::new(caller), activity));
            // What came with the application's answer is the caller's already.
            if tokio::io::AsyncWriteExt::write_all(&mut outer, &parts.read_buf).await.is_ok() {
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut outer, &mut inner, UPGRADED, UPGRADED)
                    .await;
            }
        }
        drop(carrier);
    });
    let mut reply = done();
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut headers = std::mem::take(answer.headers_mut());
    headers::strip(&mut headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    mark(&mut headers);
    *reply.headers_mut() = headers;
    reply
}

fn mark(headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static(APP_ANSWER_HEADER), HeaderValue::from_static("1"));
}

fn broken(port: u16, problem: &hyper::Error) -> Refused {
    tracing::debug!(port, %problem, "a request to a port broke");
    Refused {
        status: StatusCode::BAD_GATEWAY,
        code: "port_broken",
        message: format!("What listens on port {port} gave no answer of HTTP/1.1."),
    }
}
