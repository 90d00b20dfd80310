use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use burstflare_core::domain::permission::Action;
use burstflare_core::{ControlPlane, Error, Kind};

use crate::body;
use crate::extract::{Authenticated, Json, Params};
use crate::problem::Answer;
use crate::resource::ExecRequest;
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table.add(__path_exec, Access::Bearer(Action::SessionAttach), Accepts::Json, exec)
}

/// Run a command. The answer is JSON lines: `{"stdout": …}`, `{"stderr": …}` (`…_b64` where it is not UTF-8), and at
/// last `{"exit": N}`, `{"signal": …}` or `{"error": …}`.
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
