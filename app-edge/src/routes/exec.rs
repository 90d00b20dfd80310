use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use burstflare_core::domain::permission::Action;
use burstflare_core::{ControlPlane, Error, Kind};

use crate::attached::{Attached, connect};
use crate::body;
use crate::extract::{Authenticated, Json, Params};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::ExecRequest;
use crate::state::EdgeState;
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table
        .add(__path_exec, Access::Bearer(Action::SessionAttach), Accepts::Json, exec)
        // The ticket is the permission.
        .add(__path_stream, Access::Counted(10), Accepts::Nothing, stream)
}

/// Run a command. The answer is JSON lines: `{"stdout": …}`, `{"stderr": …}` (`…_b64` where it is not UTF-8), and at
/// last `{"exit": N}`, `{"signal": …}`, `{"timed_out": ms}`, `{"output_limit": bytes}` or `{"error": …}`. When the
/// caller goes away the command is ended, unless it is detached.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/exec", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    request_body = ExecRequest,
    responses((status = 200, body = String, content_type = "application/jsonl")))]
async fn exec(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    Json(request): Json<ExecRequest>,
) -> Answer<Response> {
    let answer = plane.exec(&caller, &session, &request.into()).await?;
    if answer.status() != StatusCode::OK {
        return Err(Error::new(
            Kind::Unavailable,
            "agent_refused",
            format!("The session's machine refused the command with status {}.", answer.status().as_u16()),
            "Look at the session: `flare session show`; then try again.",
        )
        .into());
    }
    let mut response = Response::new(body::outbound(answer.into_body()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    Ok(response)
}

/// A command on a WebSocket. The first message is an `ExecRequest` as text; then binary messages are standard input (at
/// most 1 MiB that is not acknowledged) and text messages `"eof"`, `{"resize": {"cols", "rows"}}` or `{"signal": "INT"}`.
/// Back come binary messages, whose first byte is 1 (output) or 2 (error output), and as text `{"ack": bytes}` and the
/// last line of the other form.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/exec", tag = "sessions",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("ticket" = String, Query, description = "A ticket from `attach`, of purpose `exec`")
    ),
    responses((status = 101, description = "The connection is open")))]
async fn stream(
    State(state): State<EdgeState>,
    Params(session): Params<String>,
    query: Query,
    request: Request,
) -> Answer<Response> {
    connect(&state, &session, Attached::Exec, query, request).await
}
